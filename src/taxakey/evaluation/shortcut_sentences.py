"""What the tests of shortcuts found, in sentences: what an interval supports and no more."""

from __future__ import annotations

from collections.abc import Mapping

from taxakey.metrics.differences import Difference
from taxakey.metrics.intervals import LEVEL, Interval

Figures = Mapping[str, Interval]


def of_held_out(code: str, observations: int, figures: Figures, lost: Difference) -> tuple[str, ...]:
    """`figures`: "seen" and "unseen"; `lost`: the first minus the second."""
    measured = (
        f"The model that had learnt from pictures of {code} named {with_span(figures['seen'])} of its {observations:,} "
        f"observations rightly, the one that had learnt from none {with_span(figures['unseen'])}: {points(lost)}."
    )
    if lost.low > 0:
        return measured, (
            f"So an institution that is new to the model must expect less than the score on {code} promises. How much of this is "
            "the look of its sheets, and how much that the other model had more pictures of the same species, this comparison "
            "can't tell; painting over the plant can."
        )
    better = " The model that had never seen them did better." if lost.high < 0 else ""
    return measured, f"That doesn't show that the model lives off the look of {code}'s sheets.{better}"


def of_masked(observations: int, figures: Figures, gap: Difference) -> tuple[str, ...]:
    """`figures`: "unmasked" and "masked"; `gap`: the first minus the second."""
    measured = (
        f"From pictures as they are {with_span(figures['unmasked'])} of {observations:,} observations were named rightly, from "
        f"masked ones {with_span(figures['masked'])}: {points(gap)}."
    )
    if gap.low > 0:
        return measured, "The model gains from text on the sheets, which a new plant won't bear; judge it by the masked pictures."
    if gap.high < 0:
        return measured, "Masking made the model better."
    return measured, "The interval holds 0, so it doesn't show that the model reads the text on the sheets."


def of_painted(figures: Figures, differences: Mapping[str, Difference]) -> tuple[str, ...]:
    """As `shortcuts.painted_over` names them."""
    model, layer = differences["model"], differences["linear layer"]
    said = [
        f"With the plant painted over the model still named {with_span(figures['model'])} of the pictures rightly (whole: "
        f"{with_span(figures['whole pictures'])}); always saying the commonest training species is right for "
        f"{with_span(figures['commonest species'])}: {points(model)}.",
        "So it does name species by something else than the plant."
        if model.low > 0
        else "That doesn't show that it names species by anything but the plant. Painted pictures are strange to it, though: "
        "what it doesn't use here may still help it elsewhere.",
        f"A linear layer that learns from painted pictures names {with_span(figures['linear layer'])} rightly, {points(layer)} "
        "against the commonest species.",
        "So the shortcut is there to be taken." if layer.low > 0 else "That doesn't show a shortcut to the species.",
    ]
    if "institution" in figures:
        said.append(
            f"The same kind of layer tells the institution for {with_span(figures['institution'])}, "
            f"{points(differences['institution'])} against the commonest one. Whoever knew the institution alone, and said its "
            f"commonest training species, would be right for {with_span(figures['by institution'])}."
        )
    return tuple(said)


def with_span(figure: Interval) -> str:
    """`61.2 % (57.0–65.1 %)`."""
    return f"{100 * figure.value:.1f} % ({100 * figure.low:.1f}–{100 * figure.high:.1f} %)"


def points(found: Difference) -> str:
    """`+6.1 points (95% interval +2.0 to +10.2)`."""
    return f"{100 * found.value:+.1f} points ({100 * LEVEL:.0f} % interval {100 * found.low:+.1f} to {100 * found.high:+.1f})"
