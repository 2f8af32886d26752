"""The products that the benchmark repeats are those of a step, no fewer and no more."""

from __future__ import annotations

import torch
from loaded import load

from taxakey.models.head_options import build_head
from taxakey.models.metadata import MetadataTransformerOptions
from taxakey.taxonomy import Taxonomy

bench = load("metadata_transformer")


def test_the_products_of_a_step_are_found_whole() -> None:
    options = MetadataTransformerOptions(
        layers=2, attention_heads=2, feed_forward=20, hidden=24, token_hidden=(5, 6, 7), dropout=0.0
    )
    taxonomy = Taxonomy.from_rows({"scientificName": f"S {number:02d}"} for number in range(11))
    head = build_head(options, 8, taxonomy, metadata=(4, 2, 3))
    step = bench.Step(head, "cpu", "32-true")
    given = bench.Batch(torch.randn(6, 8), torch.arange(6), torch.randn(6, 9))
    with bench.Products() as products:
        step.gradients(given)
    # Backward: each product's two factors, but no gradient of what comes from outside.
    outside = 4 * 5 + 2 * 6 + 3 * 7
    assert bench.multiply_adds(products.found) == 6 * (3 * head.multiply_adds(training=True) - outside)
    bench.bare(products.found, "cpu")()
    before = head.classifier[-1].weight.detach().clone()
    step(given)
    assert not torch.equal(head.classifier[-1].weight, before)


def test_the_loader_gives_whole_batches_for_ever() -> None:
    loader = bench.batches(rows=10, batch=4, classes=3)
    taken = [next(loader) for _ in range(5)]
    assert [len(batch.labels) for batch in taken] == [4, 4, 2, 4, 4]
    assert taken[0].inputs.shape == (4, 1024)
    assert taken[0].metadata.shape == (4, 84)
