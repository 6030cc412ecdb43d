"""One number that says whether this machine and these libraries draw and render a spec's views as others do.

The teacher pass keeps it beside the ViewSpec; a student compares it at its start, before it has read any picture.
"""

import numpy as np

from distill.views.draw import draw
from distill.views.proof import block_proof, pixel_digest
from distill.views.render import render
from distill.views.spec import ViewSpec


def spec_digest(spec: ViewSpec) -> int:
    """The digest of a fixed set of renders of `spec`, of pictures made by integer arithmetic: uint64, never 0."""
    height, width = 61, 83
    rows, columns = np.mgrid[0:height, 0:width]
    waves = np.stack([rows * columns, rows * 3 + columns, rows ^ columns], axis=2)
    source = (waves % 256).astype(np.uint8)
    return block_proof([pixel_digest(render(source, draw(spec, seed, (height, width)), size=48)) for seed in range(64)])
