"""What a user would otherwise do with embeddings: scikit-learn's logistic regression on the same vectors and split.

    python benchmarks/logistic_regression.py DATASET VECTORS

Trained on the training part with scikit-learn's defaults (1,000 iterations at most), measured on the test part.
"""

from __future__ import annotations

import sys

from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score

from taxakey.dataset.reader import Dataset
from taxakey.dataset.vectors import Vectors


def main(dataset_folder: str, vectors_folder: str) -> None:
    dataset, vectors = Dataset.open(dataset_folder), Vectors(vectors_folder)
    train, test = dataset.part("train"), dataset.part("test")
    model = LogisticRegression(max_iter=1000)
    model.fit(vectors.part("train", train.image_ids), train.class_index)
    named = model.predict(vectors.part("test", test.image_ids))
    print(f"top-1        {(named == test.class_index).mean():.4f}")
    print(f"macro top-1  {balanced_accuracy_score(test.class_index, named):.4f}")
    print(f"macro F1     {f1_score(test.class_index, named, average='macro'):.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
