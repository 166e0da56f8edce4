"""The decoders under allocators that check every block: ``make fuzz`` has more files."""

from tests.conftest import run_python
from tests.fuzz_decoding import checking


def test_mutated_files_in_a_process_that_checks_its_memory(tmp_path, request):
    count = max(150, request.config.getoption("--fuzz-inputs") // 100)
    seed = request.config.getoption("--fuzz-seed")
    arguments = ("--inputs", str(count), "--seed", str(seed), "--keep", tmp_path / "file")
    run = run_python("-m", "tests.fuzz_decoding", *arguments, timeout=3600, **checking())
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.startswith(f"{count} files (seed {seed}) in ")
    print(run.stdout)
