"""What ``cocoer-vlm`` says while it works, and at the end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence

from tqdm import tqdm

from cocoer_client.reading import ranked, warnings_of
from cocoer_client.sources import LeftOut
from cocoer_client.terminal import complain, counted, printable
from cocoer_client.vlm.asking import Asked, Subject, only_in_enhanced
from cocoer_client.vlm.cost import Estimate, Prices, money
from cocoer_client.vlm.people import Recognised
from cocoer_client.vlm.record import Record

MAX_TEXT = 100
"""Characters shown of an answer that has no labels."""


class Talk:
    """Text on standard output; costs, counts and errors on standard error.

    Args:
        args: the command line.
        left_out: of the folders that were searched.
    """

    def __init__(self, args: argparse.Namespace, left_out: LeftOut) -> None:
        self.quiet, self.text = args.quiet, not args.quiet and args.json != "-"
        if left_out:
            self.say(left_out.line())

    def say(self, text: str) -> None:
        """To whoever watches."""
        if not self.quiet:
            print(printable(text), file=sys.stderr)

    def recognised(self, images: Iterable[Recognised]) -> Iterator[Recognised]:
        """Pass images on, with what is wrong with them; warnings once."""
        warned: set[str] = set()
        for image in tqdm(images, unit="image", desc="recognising", disable=True if self.quiet else None):
            if image.error:
                complain(f"{image.source.name}: {image.error}")
            for warning in warnings_of(image.result) if image.result else ():
                if warning.partition(":")[0] not in warned:
                    warned.add(warning.partition(":")[0])
                    self.say(f"!! {warning}")
            yield image

    def cost(self, cost: Estimate, images: Sequence[Recognised], prices: Prices | None) -> None:
        """What is about to be asked."""
        persons = sum(len(image.result["persons"]) for image in images if image.result)
        if not persons:
            self.say("nobody was found: there is nothing to ask")
            return
        self.say(f"{counted(persons, 'person')}: {cost.told(prices)}")

    def tell(self, subject: Subject, asked: Sequence[Asked], labels: Sequence[str]) -> None:
        """One person."""
        if not self.text or not asked:
            return
        person = subject.person
        first, *rest = (entry.removesuffix("-level") for entry in person["emo_process"])
        print(printable(f"{subject.name}  (excluded first: {first}, then {', '.join(rest)})"))
        chosen = ", ".join(f"{label} {probability:.2f}" for label, probability in ranked(person, "pred", labels))
        rows = [("CocoER", chosen or "no label"), *((one.mode, _told(one)) for one in asked)]
        if any(one.mode == "enhanced" for one in asked):
            rows.append(("only enhanced", ", ".join(only_in_enhanced(asked)) or "-"))
        for name, text in rows:
            print(f"  {name:<15}{printable(text)}")
        sys.stdout.flush()

    def close(self, record: Record, notes: Sequence[str], prices: Prices | None) -> None:
        """What became of the questions, and what they cost."""
        for mode, counts in record.counts.items():
            if counts:
                self.say(f"{mode}: {', '.join(f'{kind} {count:,}' for kind, count in counts.most_common())}")
        for note in notes:
            self.say(note)
        usage = record.usage
        paid = f": {money(usage.prompt, usage.completion, prices):.2f}" if prices else ""
        self.say(f"tokens: {usage.prompt:,} sent, {usage.completion:,} came back{paid}")


def _told(one: Asked) -> str:
    answer = one.answer
    text = ", ".join(answer.labels) or "no label"
    if answer.unknown:
        text += f" (and, which is no label: {', '.join(answer.unknown)})"
    if not answer.is_read:
        shown = " ".join(answer.text.split())
        text = f"{answer.kind}: {shown[:MAX_TEXT]}{'...' if len(shown) > MAX_TEXT else ''}"
    return f"{text}  (without {one.excluded})" if one.excluded else text
