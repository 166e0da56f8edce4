"""What looking has found, left out, and could not look at."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from cocoer_client.sources.formats import OTHER_IMAGES, is_image, is_video, other_format
from cocoer_client.sources.source import Source

HIDDEN, OTHER, PIPE, RESULT = "hidden", "other files", "pipes or devices", "results of an earlier run"
UPWARD, VIDEO = "links to a folder above", "videos"
SINGULAR = {
    OTHER: "other file",
    PIPE: "pipe or device",
    RESULT: "result of an earlier run",
    UPWARD: "link to a folder above",
    VIDEO: "video",
}
ADVICE = {VIDEO: "cocoer-infer reads them, from files"}
CONVERT = "convert them to JPEG"


@dataclass
class LeftOut:
    """Files and folders that were come across and are no sources, counted by why.

    Args:
        counts: a format (``HEIC``), or one of the reasons above -> how many.
    """

    counts: Counter[str] = field(default_factory=Counter)

    def add(self, name: str) -> None:
        """Count a file that is no source by what its name says of it."""
        self.counts[VIDEO if is_video(name) else other_format(name) or OTHER] += 1

    def add_hidden(self, name: str, is_folder: bool) -> None:
        """Count what is hidden: images, videos and folders; not the system's own ``.DS_Store`` and the like."""
        if is_folder or is_image(name) or is_video(name) or other_format(name):
            self.counts[HIDDEN] += 1

    def __bool__(self) -> bool:
        return bool(self.counts)

    def line(self) -> str:
        """For people; empty where nothing was left out.

        >>> LeftOut(Counter({"hidden": 3, "HEIC": 12, "TIFF": 1})).line()
        'left out: 12 HEIC, 1 TIFF (convert them to JPEG), 3 hidden'
        """
        formats = [f"{self.counts[name]} {name}" for name in OTHER_IMAGES if self.counts[name]]
        parts = [f"{', '.join(formats)} ({CONVERT})"] if formats else []
        for reason, count in sorted(self.counts.items(), key=lambda item: (-item[1], item[0])):
            if reason not in OTHER_IMAGES:
                what = SINGULAR.get(reason, reason) if count == 1 else reason
                parts.append(f"{count} {what}" + (f" ({ADVICE[reason]})" if reason in ADVICE else ""))
        return f"left out: {', '.join(parts)}" if parts else ""


@dataclass
class Found:
    """What the user has named.

    Args:
        sources: in the order of the inputs; of a folder, in the order of names; each once.
        left_out: what was come across, and is no source.
        problems: messages, each of which names an input or a part of it that could not be looked at: the run is not
            complete.
        unusable: those of ``problems`` that tell of a whole input that gives no source: most likely a slip of the pen.
    """

    sources: list[Source] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=LeftOut)
    problems: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
