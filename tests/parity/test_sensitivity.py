"""What the comparison of a whole distiller notices, although single signs within rounding may be either."""

import torch

from crkd_core.models.layers import conv_norm_relu
from tests.parity import detectors
from tests.parity.cases import load_case
from tests.parity.comparison import Comparison
from tests.parity.kinks import Kinks


def test_a_loss_weight_that_is_wrong_by_one_per_cent_fails(monkeypatch):
    def heavier(model):
        config = usual(model)
        return config.model_copy(update={"csrd": config.csrd.model_copy(update={"weight": 1.01 * config.csrd.weight})})

    usual = detectors._distill_config
    monkeypatch.setattr(detectors, "_distill_config", heavier)
    monkeypatch.setattr(detectors, "_run_variants", lambda step: step.run_main("teacher_eval_single"))
    comparison = Comparison(load_case("e2e_distill_train"))
    detectors.run_distiller(comparison)
    wrong = {difference.key for difference in comparison.differences if not difference.agrees}
    assert "out/teacher_eval_single/loss/object/lr_kd" in wrong
    assert "out/teacher_eval_single/loss/object/fused_affinity_kd" not in wrong
    assert "grad/norm_values" in wrong
    assert "grad/param/encoders_student.radar.backbone.distill_activation_head.0.weight" in wrong


def test_only_inputs_within_rounding_of_zero_move_gradients():
    torch.manual_seed(0)
    layers = conv_norm_relu(3, 4)
    parameters = dict(layers.named_parameters())
    kinks, clear = Kinks(), torch.randn(2, 3, 8, 8)
    with kinks.watched():
        result = layers(clear)
    assert kinks.uncertain == 0
    assert set(kinks.spread(result.square().sum() + result.sum(), parameters).values()) == {0.0}
    with torch.no_grad():
        layers[1].weight[1:] = 0
    with kinks.watched():
        result = layers(clear)
    assert kinks.uncertain == result[:, 1:].numel()
    assert kinks.spread(result.sum(), parameters)["1.bias"] > 0.3
