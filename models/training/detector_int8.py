"""Finds the int8 graph of a detector that decides as its float32 graph does."""

import numpy as np

from models.errors import ModelError
from models.quantise import quantise
from models.training.company import CLIP
from models.training.detector_graph import EXPLAINING, KNOWN, graph_of
from models.training.learn import Learned
from models.training.parity import Parity, measure

WAYS = (
    ("both products", (KNOWN, EXPLAINING)),
    ("what stands in for the missing; float32 for what the others explain", (KNOWN,)),
)
ENOUGH = 0.75
"""Share of the allowed loss below which both products are int8; features that follow each other
closely need more than 8 bits, which as several int8 products take longer than one of float32."""


def int8_of(learned: Learned, *, precision: str, seed: int) -> tuple[bytes, bytes, Parity]:
    """The fp32 graph, the int8 graph that agrees with it best, and how far it does.

    Args:
        learned: The detector, and the healthy windows that both are compared on.
        precision: `int8`; or `fp32`, which puts the same graph into both places.
        seed: Of the faults that are invented to compare both.

    Raises:
        ModelError: No int8 graph agrees well enough.
    """
    states, plan = learned.states, learned.plan
    residuals = learned.strays is not None
    fp32 = graph_of(states, plan, residuals=residuals)
    plain = fp32.SerializeToString()
    if precision == "fp32":
        return plain, plain, Parity(0.0, 0.0, "fp32 as asked")
    if not any(bool(np.any(c.expected)) for part in states.parts for c in part.companies):
        return plain, plain, Parity(0.0, 0.0, "nothing to quantise: one signal has no others")
    x = np.concatenate(learned.sequences)[: 1 << 14]
    best: tuple[Parity, bytes] | None = None
    for how, rounded in WAYS:
        if best is not None and best[0].worst <= ENOUGH:
            break
        whole = graph_of(states, plan, rounded=rounded, residuals=residuals)
        made = quantise(
            whole,
            x,
            ranges=dict.fromkeys(rounded, CLIP),
            keep_fp32=[
                node.output[0]
                for node in whole.graph.node
                if node.op_type == "MatMul" and node.input[0] not in rounded
            ],
        ).SerializeToString()
        seen = measure(plain, made, learned, how=how, seed=seed)
        if best is None or seen.worst < best[0].worst:
            best = seen, made
    assert best is not None
    if best[0].worst > 1:
        raise ModelError(
            f"int8: must lose at most 0.01 AUROC and 1 % of decisions on the worst sequence, was "
            f"{best[0].auroc_loss:.4f} and {best[0].decisions_changed:.2%}; train with --precision"
            " fp32"
        )
    return plain, best[1], best[0]
