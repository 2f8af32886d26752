"""What correcting for shifted shares of species gains: a test part drawn again with other shares, told or estimated.

    python benchmarks/share_shift.py DATASET PREDICTIONS… [--draws 20]

Each draw gives the species Zipf's shares in another random order and draws as many observations as there are, with replacement;
the same pictures come again, so a gain is one of shares alone. PREDICTIONS: of the test part, with all classes (`--full` beyond
100 species). Shapes: O observations, C classes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from taxakey.calibration.shares import corrected, estimate_shares
from taxakey.calibration.told_shares import CAUTION
from taxakey.dataset.reader import Dataset
from taxakey.prediction.members import Member, open_pool


def gains(dataset: Dataset, folder: Path, draws: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Top-1 as it is, and what estimated and told shares add to it, a number a draw."""
    member = Member.open(folder)
    pool = open_pool([member])
    p_OC = np.exp(member.log_probabilities(pool.ids).astype(np.float64))
    p_OC /= p_OC.sum(axis=1, keepdims=True)
    train_C, true_O, count = dataset.train_counts() / dataset.train_counts().sum(), pool.true_O, len(pool)
    before, estimated, told = [], [], []
    for seed in range(draws):
        generator = np.random.default_rng(seed)
        zipf_C = 1 / generator.permutation(np.arange(1, len(train_C) + 1))
        wanted_O = (zipf_C / np.maximum(np.bincount(true_O, minlength=len(train_C)), 1))[true_O]
        rows = generator.choice(count, count, p=wanted_O / wanted_O.sum())
        drawn_OC, right_O = p_OC[rows], true_O[rows]
        new_C = np.bincount(right_O, minlength=len(train_C)) / count
        guess_C = estimate_shares(drawn_OC, train_C, prior_observations=CAUTION * count)
        top_1 = [
            float((answer_OC.argmax(axis=1) == right_O).mean())
            for answer_OC in (drawn_OC, corrected(drawn_OC, train_C, guess_C), corrected(drawn_OC, train_C, new_C))
        ]
        before.append(top_1[0])
        estimated.append(top_1[1] - top_1[0])
        told.append(top_1[2] - top_1[0])
    return float(np.mean(before)), np.array(estimated), np.array(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("predictions", type=Path, nargs="+")
    parser.add_argument("--draws", type=int, default=20)
    asked = parser.parse_args()
    dataset = Dataset.open(asked.dataset)
    for folder in asked.predictions:
        before, estimated, told = gains(dataset, folder, asked.draws)
        print(f"{folder}: top-1 {before:.3f}; points gained, mean of {asked.draws} draws [least, most]:")
        for words, gain in (("estimated", estimated), ("told", told)):
            print(f"  {words}: {100 * gain.mean():+.1f} [{100 * gain.min():+.1f}, {100 * gain.max():+.1f}]")


if __name__ == "__main__":
    main()
