"""What correcting for shifted shares of species gains: a test part drawn again with other shares, told or estimated.

    python benchmarks/share_shift.py DATASET POOL… [--draws 20]

Each draw gives the species Zipf's shares in another random order and draws as many observations as there are, with replacement;
the same pictures come again, so a gain is one of shares alone. Then as many draws without a shift, where nothing can be gained.
POOL: folders with predictions-validation and predictions-test of one model, with all classes (`--full` beyond 100 species).
Estimates are those of `--shares estimate`: biases fitted on validation, nothing corrected where the pictures don't speak for it.
"before": expectation-maximisation on the calibrated probabilities as they are, a tenth as many prior observations. Shapes: O
observations, C classes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from taxakey.calibration.bias_corrected import fit_bias_corrected
from taxakey.calibration.shares import corrected, estimate_shares
from taxakey.calibration.supported import estimate_with_support
from taxakey.dataset.reader import Dataset
from taxakey.prediction.members import Member, open_pool


def gains(dataset: Dataset, folder: Path, draws: int, shift: bool) -> tuple[float, dict[str, np.ndarray]]:
    """Top-1 as it is, and what each way adds to it, a number a draw; "corrected": whether the estimate was."""
    log_p, true = {}, {}
    for part in ("validation", "test"):
        member = Member.open(folder / f"predictions-{part}")
        pool = open_pool([member])
        log_p[part], true[part] = member.log_probabilities(pool.ids).astype(np.float64), pool.true_O
    basis = fit_bias_corrected(log_p["validation"], true["validation"])
    plain_OC = np.exp(log_p["test"])
    plain_OC /= plain_OC.sum(axis=1, keepdims=True)
    own_OC, old_C, true_O = basis.probabilities(log_p["test"]), np.array(basis.share), true["test"]
    train_C, count = dataset.train_counts() / dataset.train_counts().sum(), len(true_O)
    before, found = [], {name: [] for name in ("before", "estimated", "told", "corrected")}
    for seed in range(draws):
        rows = drawn(true_O, len(train_C), seed, shift)
        right_O = true_O[rows]
        new_C = np.bincount(right_O, minlength=len(train_C)) / count
        estimate = estimate_with_support(own_OC[rows], old_C)
        answers = {
            "before": corrected(
                plain_OC[rows], train_C, estimate_shares(plain_OC[rows], train_C, prior_observations=0.1 * count)
            ),
            "estimated": corrected(own_OC[rows], old_C, estimate.share_C) if estimate.supported else plain_OC[rows],
            "told": corrected(plain_OC[rows], train_C, new_C),
        }
        before.append((plain_OC[rows].argmax(axis=1) == right_O).mean())
        for name, answer_OC in answers.items():
            found[name].append((answer_OC.argmax(axis=1) == right_O).mean() - before[-1])
        found["corrected"].append(float(estimate.supported))
    return float(np.mean(before)), {name: np.array(values) for name, values in found.items()}


def drawn(true_O: np.ndarray, classes: int, seed: int, shift: bool) -> np.ndarray:
    generator = np.random.default_rng(seed)
    if not shift:
        return generator.choice(len(true_O), len(true_O))
    zipf_C = 1 / generator.permutation(np.arange(1, classes + 1))
    wanted_O = (zipf_C / np.maximum(np.bincount(true_O, minlength=classes), 1))[true_O]
    return generator.choice(len(true_O), len(true_O), p=wanted_O / wanted_O.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("pools", type=Path, nargs="+")
    parser.add_argument("--draws", type=int, default=20)
    asked = parser.parse_args()
    dataset = Dataset.open(asked.dataset)
    for folder in asked.pools:
        for shift in (True, False):
            before, found = gains(dataset, folder, asked.draws, shift)
            used = found.pop("corrected").mean()
            said = "; ".join(
                f"{name} {100 * gain.mean():+.1f} [{100 * gain.min():+.1f}, {100 * gain.max():+.1f}]"
                for name, gain in found.items()
            )
            print(f"{folder.name}, {'shift' if shift else 'none'}: top-1 {before:.3f}; {said}; corrected {used:.0%} of the draws")


if __name__ == "__main__":
    main()
