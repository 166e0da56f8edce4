"""What ``cocoer-vlm`` says while it works, and at the end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from cocoer_client.reading import ranked
from cocoer_client.terminal import printable
from cocoer_client.vlm.asking import Asked, Subject, only_in_enhanced
from cocoer_client.vlm.cost import Estimate
from cocoer_client.vlm.record import Record


class Talk:
    """Text on standard output, costs and counts on standard error."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.quiet, self.text = args.quiet, not args.quiet and args.json != "-"

    def cost(self, estimate: Estimate) -> None:
        """What is about to be asked."""
        if not self.quiet:
            kept = f" ({estimate.kept} more are kept from before)" if estimate.kept else ""
            print(
                f"{estimate.requests} requests{kept}: about {estimate.prompt_tokens:,} tokens are sent, at most "
                f"{estimate.completion_tokens:,} come back",
                file=sys.stderr,
            )

    def tell(self, subject: Subject, asked: Sequence[Asked], labels: Sequence[str]) -> None:
        """One person."""
        if not self.text:
            return
        person = subject.person
        first, *rest = (entry.removesuffix("-level") for entry in person["emo_process"])
        print(printable(f"{subject.file}  person {person['id']}  excluded first: {first}, then {', '.join(rest)}"))
        chosen = ", ".join(f"{label} {probability:.2f}" for label, probability in ranked(person, "pred", labels))
        print(f"  {'CocoER':<15}{chosen or '-'}")
        for one in asked:
            print(f"  {one.mode:<15}{printable(_told(one))}")
        if any(one.mode == "enhanced" for one in asked):
            print(f"  {'only enhanced':<15}{', '.join(only_in_enhanced(asked)) or '-'}")
        sys.stdout.flush()

    def close(self, record: Record) -> None:
        """What became of the questions."""
        if self.quiet:
            return
        for mode, counts in record.counts.items():
            told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
            print(f"{mode}: {told or 'nothing asked'}", file=sys.stderr)
        usage = record.usage
        print(f"{usage.prompt:,} tokens sent, {usage.completion:,} came back", file=sys.stderr)


def _told(one: Asked) -> str:
    answer = one.answer
    text = ", ".join(answer.labels) or "no label"
    if answer.unknown:
        text += f" (and what is no label: {', '.join(answer.unknown)})"
    if not answer.is_read:
        text = f"{answer.kind}: {' '.join(answer.text.split())[:100]}"
    return f"{text}  [without {one.excluded}]" if one.excluded else text


def complain(text: str) -> None:
    """Say what is wrong, on one line."""
    print(f"error: {printable(text)}", file=sys.stderr)
