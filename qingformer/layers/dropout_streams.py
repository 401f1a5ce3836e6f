"""The independent random streams into which a block divides the one seed of a call."""

import enum


class DropoutStream(enum.IntEnum):
    """Where in a block units are dropped; each member is the `site` of `ops.seeded_dropout.dropout`.

    A block draws one seed a call, so that recomputing it in the backward pass drops the same units; with one stream for
    all, the same positions would be dropped everywhere in the block. The numbers stay as they are: another number means
    other units, and a run that is resumed must go on with the ones that it began with.
    """

    ATTENTION_WEIGHTS = 0
    ATTENTION_OUTPUT = 1
    FEED_FORWARD_OUTPUT = 2
    CROSS_ATTENTION_OUTPUT = 3
    CROSS_ATTENTION_WEIGHTS = 4
    FEED_FORWARD_INSIDE = 5
