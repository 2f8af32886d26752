"""What the figures of ensembles, routers and frontiers mean; letters as in `meanings`."""

from __future__ import annotations

from taxakey.evaluation.meanings import METRICS, OTHERS, Definition

_SHARED = {name: METRICS[name] for name in ("top_1", "macro_top_1", "ma_mrr")} | {"interval": OTHERS["interval"]}
FRONTIER: dict[str, Definition] = _SHARED
ROUTED: dict[str, Definition] = _SHARED | {
    "difference": OTHERS["difference"],
    "third": OTHERS["third"],
    "cost": Definition(
        "Multiply-adds",
        "Products of numbers that a picture costs on average: of the experts asked, and of what the gate looks at.",
        "mean over the observations of Σ over the experts asked; a backbone that several share counts once",
        "Sze et al. 2017",
    ),
    "oracle": Definition(
        "Oracle",
        "What a router would reach that always asked an expert who is right, where there is one.",
        "Σ [some ŷ = y] / O",
        "Kuncheva 2014",
    ),
}
MIXED: dict[str, Definition] = _SHARED | {
    "difference": OTHERS["difference"],
    "nll": OTHERS["negative_log_likelihood"],
    "disagreement": Definition("Named differently", "The share of observations for which two members' first names differ.",
                               "Σ [ŷ₁ ≠ ŷ₂] / O", "Kuncheva & Whitaker 2003"),
    "double_fault": Definition("Both wrong", "The share of observations that two members both name wrongly.",
                               "Σ [ŷ₁ ≠ y, ŷ₂ ≠ y] / O", "Giacinto & Roli 2001"),
    "correlation": Definition("φ", "Whether two members are right on the same observations: 1 always, 0 as chance has it.",
                              "Pearson correlation of [ŷ₁ = y] and [ŷ₂ = y]", "Yule 1912; Kuncheva & Whitaker 2003"),
    "oracle": Definition("At least one right", "No choice among the members' first names can exceed it.",
                         "Σ [some ŷ = y] / O", "Kuncheva 2014"),
}  # fmt: skip
