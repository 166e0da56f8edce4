"""Sizes of the network. The release's are the default; what passes between its parts is the same in all."""

from __future__ import annotations

from dataclasses import dataclass

CHANNELS = 256
"""Width of a token, and of each level's and the V-I head's feature."""
GRID = 7
"""Cells on each side of the token grid."""
TOKENS = GRID * GRID


@dataclass(frozen=True)
class Architecture:
    """Widths and depths of trunks, CLIP and V-I head.

    Args:
        name: what it is called.
        trunk_planes, trunk_blocks: of the levels' ResNets: planes of the first stage (doubled by each of the next
            three), and bottlenecks of each stage.
        clip_planes, clip_blocks: the same of CLIP's image tower.
        embedding: width of CLIP's image embedding, and of the V-I alignment matrix.
        vi_hidden: width of the V-I head's first layer.
    """

    name: str = "release"
    trunk_planes: int = 64
    trunk_blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    clip_planes: int = 64
    clip_blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    embedding: int = 1024
    vi_hidden: int = 6656

    @property
    def clip_heads(self) -> int:
        """Heads of CLIP's attention pool, 64 wide each."""
        return self.clip_planes * 32 // 64


RELEASE = Architecture()
"""CocoER's release: 307 million parameters."""
TINY = Architecture("tiny", 8, (1, 1, 1, 1), 8, (1, 1, 1, 1), embedding=64, vi_hidden=128)
"""The same graph with a twentieth of the parameters: for tests of everything but numbers and speed."""
ARCHITECTURES = {architecture.name: architecture for architecture in (RELEASE, TINY)}
