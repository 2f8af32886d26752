"""Labels for genus and family, and the loss that learns from them. Shapes: B images, C classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plain_head import COUNTS, FACTS, FAMILIES, GENERA, PlainHead, built, drawn, flora, loss_of
from torch.testing import assert_close

from taxakey.losses.class_weighted import ClassWeightedOptions
from taxakey.losses.cross_entropy import CrossEntropyOptions
from taxakey.losses.decision import Answer
from taxakey.losses.marginal import MarginalOptions
from taxakey.losses.poisonous import PoisonousOptions
from taxakey.losses.seesaw import SeesawOptions
from taxakey.losses.taxon_labels import first_label, labels_above, taxon_labels
from taxakey.losses.weighted_triplet import WeightedTripletOptions

FLORA = flora()
# Seven species, then Acer, Bellis, Quercus, then Asteraceae, Fagaceae, Sapindaceae.
ACER, BELLIS, ASTERACEAE, FAGACEAE = 7, 8, 10, 11


def test_labels_stand_behind_the_classes_rank_by_rank() -> None:
    assert (first_label(FLORA, "genus"), first_label(FLORA, "family")) == (7, 10)
    assert taxon_labels(FLORA, "genus", ["Bellis", "Acer", "Tilia", None]).tolist() == [BELLIS, ACER, -1, -1]
    assert taxon_labels(FLORA, "family", ["Fagaceae", "Asteraceae"]).tolist() == [FAGACEAE, ASTERACEAE]
    assert labels_above(FLORA).tolist() == [[7, 7, 8, 8, 8, 9, -1], [12, 12, 10, 10, 10, 11, 10]]
    with pytest.raises(ValueError, match="one of genus, family"):
        taxon_labels(FLORA, "order", ["Rosales"])


def test_equals_the_sum_of_the_probabilities_below() -> None:
    logits_BC, _ = drawn(13)
    labels_B = torch.arange(13)
    names = [*FLORA.taxa("genus"), *FLORA.taxa("family")]
    p_BC = logits_BC.double().softmax(1)
    expected = []
    for p_C, label in zip(p_BC, labels_B.tolist(), strict=True):
        below = [c for c in range(7) if (c == label if label < 7 else names[label - 7] in (GENERA[c], FAMILIES[c]))]
        expected.append(-torch.stack([p_C[c] for c in below]).sum().log())
    found_B = loss_of((CrossEntropyOptions(), MarginalOptions()), logits_BC, labels_B)
    assert_close(found_B, torch.stack(expected).float())


def test_among_the_species_of_the_genus_the_model_stays_free() -> None:
    logits_BC = torch.tensor([[2.0, 2.0, 0, 0, 0, 0, 0]]).requires_grad_()
    label = torch.tensor([ACER])
    (gradient,) = torch.autograd.grad(loss_of((CrossEntropyOptions(), MarginalOptions()), logits_BC, label).sum(), logits_BC)
    assert gradient[0, 0] == gradient[0, 1] < 0
    assert (gradient[0, 2:] > 0).all()
    # A genus of one species is that species.
    both = [loss_of((CrossEntropyOptions(), MarginalOptions()), logits_BC, torch.tensor([label])) for label in (5, 9)]
    assert_close(*both)


OTHERS = (
    SeesawOptions(p=0.7, label_smoothing=0.1),
    ClassWeightedOptions(),
    PoisonousOptions(weight=0.1),
    WeightedTripletOptions(margin=1.0),
)


def test_images_with_a_species_have_the_other_losses_and_no_more() -> None:
    logits_BC, labels_B = drawn(12)
    partly_B = labels_B.clone()
    partly_B[[1, 4, 5]] = torch.tensor([BELLIS, ASTERACEAE, ACER])
    named_B = partly_B < 7
    found_B = loss_of((*OTHERS, MarginalOptions(weight=0.3)), logits_BC, partly_B)
    assert_close(found_B[named_B], loss_of(OTHERS, logits_BC[named_B], labels_B[named_B]))
    alone_B = loss_of((CrossEntropyOptions(), MarginalOptions()), logits_BC, partly_B)
    assert_close(found_B[~named_B], 0.3 * alone_B[~named_B])


def test_gradients_are_finite_and_an_image_of_a_genus_pulls_no_single_species() -> None:
    logits_BC, _ = drawn(3)
    logits_BC.requires_grad_()
    loss, head = built(*OTHERS, MarginalOptions())
    loss_B = loss(Answer(head, logits_BC, torch.tensor([BELLIS, ASTERACEAE, 2])))
    (gradient,) = torch.autograd.grad(loss_B[:2].sum(), logits_BC)
    assert gradient.isfinite().all()
    assert not gradient[2].any()  # the others' images don't touch it, triplets included
    assert (gradient[0, 2:5] < 0).all()
    assert (gradient[0, [0, 1, 5, 6]] > 0).all()


def test_without_it_such_a_label_is_an_error_and_not_a_zero() -> None:
    loss, head = built(CrossEntropyOptions())
    with pytest.raises(IndexError):
        loss(Answer(head, torch.zeros(1, 7), torch.tensor([BELLIS])))


def test_it_counts_on_what_the_losses_within_need() -> None:
    head = PlainHead()
    loss = MarginalOptions().build(SeesawOptions().build(), FACTS)
    assert loss.needs_counts
    assert head.counts is None
    np.testing.assert_array_equal(built(SeesawOptions(), MarginalOptions())[1].counts, COUNTS)
