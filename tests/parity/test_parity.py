"""Every recorded case beside the repository agrees; and the runner notices when one does not."""

import json

import numpy as np
import pytest

from tests.parity.__main__ import main
from tests.parity.cases import CASES, PATHS, WITHOUT, GoldenCase, read_case
from tests.parity.comparison import Comparison
from tests.parity.kinds import KINDS, find_runner
from tests.parity.results import run_case, run_path
from tests.parity.rules import RULES


@pytest.mark.parametrize("path", PATHS or [None], ids=lambda path: path.stem if path else "absent")
def test_case_agrees(path):
    if path is None:
        pytest.skip("the recorded cases are not beside the repository")
    result = run_path(path)
    assert result.passed, "\n".join(result.problems)
    if result.left_out:
        pytest.skip(RULES[result.comparison.rules[0]])


def case_of(**arrays) -> GoldenCase:
    return GoldenCase("made", {}, {key.replace("__", "/"): np.asarray(value) for key, value in arrays.items()})


def compared(ours, theirs, key="out__a", **options) -> bool:
    comparison = Comparison(case_of(**{key: theirs}))
    comparison.check(key.replace("__", "/"), np.asarray(ours), **options)
    return not comparison.problems


def test_numbers_agree_within_the_scale_of_their_array():
    assert compared([100.0, 0.004], [100.0, 0.0])
    assert not compared([100.0, 0.006], [100.0, 0.0])
    assert compared([100.009], [100.0])
    assert not compared([100.02], [100.0])
    assert compared([100.09], [100.0], key="grad__a")
    assert compared([0.0], [0.0])
    assert not compared([1e-3], [0.0])
    assert compared([1e-3], [0.0], scale=100.0)


def test_integers_shapes_and_infinite_values_must_be_equal():
    assert compared([1, 2], [1, 2])
    assert not compared([1, 3], [1, 2])
    assert not compared([[1.0]], [1.0])
    assert compared([np.nan, np.inf], [np.nan, np.inf])
    assert not compared([np.nan, np.inf], [np.nan, -np.inf])
    assert not compared([np.nan, 1.0], [1.0, 1.0])


def test_parts_of_an_array_are_compared_alone():
    assert compared([1.0, 9.0], [1.0, 2.0], where=[True, False])
    assert not compared([9.0, 2.0], [1.0, 2.0], where=[True, False])
    assert compared([[2.0]], [[1.0, 2.0]], columns=[1])
    assert compared([[3.0]], [[1.0], [3.0]], rows=np.array([False, True]))


def test_what_nobody_compared_fails():
    comparison = Comparison(case_of(out__a=1.0, out_train__b=1.0, grad__c=1.0, in__d=1.0, out__ambiguous_cells=1))
    comparison.check("out/a", 1.0)
    assert [problem.split(":")[0] for problem in comparison.problems] == ["out_train/b", "grad/c"]
    assert Comparison(case_of(in__a=1.0)).problems == ["nothing was compared"]


def test_rules_must_be_declared():
    comparison = Comparison(case_of(out__a=1.0))
    with pytest.raises(KeyError, match="not declared"):
        comparison.leave_out("out/a", "because")
    comparison.leave_out("out/a", next(iter(RULES)))
    assert not comparison.problems
    assert comparison.left_out


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("lss_transform_2", "lss_transform"),
        ("depth_lss_transform_b", "depth_lss_transform"),
        ("holdout_e2e_student_swin_eval", "e2e"),
        ("e2e_distill_train_7", "e2e_distill"),
        ("head_loss_soft_a_alone", "head_loss_soft"),
        ("head_loss_student_odd", "head_loss"),
        ("radar_feature_net_train", "radar_feature_net"),
        ("swin_checkpoint_convert_x", "swin_checkpoint_convert"),
        ("swin_2stage", "swin"),
        ("kd_lr_schedule", "kd_lr"),
    ],
)
def test_kinds_are_told_by_name(name, kind):
    assert find_runner(GoldenCase(name, {}, {})) is KINDS[kind]


def test_the_recorded_name_counts_where_the_file_name_says_nothing():
    assert find_runner(GoldenCase("case_17", {}, {}, recorded_as="kd_lr")) is KINDS["kd_lr"]
    assert find_runner(GoldenCase("kd_lrx", {}, {})) is None


@WITHOUT
def test_a_disturbed_case_fails():
    case = read_case(CASES / "gatedfuser.npz")
    assert run_case(case).passed
    disturbed = {**case.arrays, "out/gated_1": case.arrays["out/gated_1"] + np.float32(0.01)}
    result = run_case(GoldenCase(case.name, case.config, disturbed))
    assert [problem.split(":")[0] for problem in result.problems] == ["out/gated_1"]
    further = {**case.arrays, "out/gated_3": case.arrays["out/gated_1"]}
    assert run_case(GoldenCase(case.name, case.config, further)).problems == ["out/gated_3: recorded but not compared"]


def write(folder, name, config, **arrays):
    np.savez(folder / f"{name}.npz", **{key.replace("__", "/"): np.asarray(value) for key, value in arrays.items()})
    (folder / f"{name}.json").write_text(json.dumps({"config": config}))


SCHEDULE = {"base": [1.0], "iters_per_epoch": 1, "epochs": 1, "hook": "warmup linear 0 iters"}


def test_the_command_prints_a_row_a_case_and_fails_on_any_that_does(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    (tmp_path / "lr_schedule.json").write_text(json.dumps({"config": SCHEDULE}))
    np.savez(tmp_path / "lr_schedule.npz", **{"out/lr__f64": np.array([[1.0]])})
    assert main([str(tmp_path)]) == 0
    write(tmp_path, "mystery", {}, out__a=1.0)
    (tmp_path / "kd_lr.json").write_text(json.dumps({"config": {}}))
    capsys.readouterr()
    assert main([str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "no runner for a case of this kind" in printed
    assert "kd_lr" in printed
    assert "cannot be read" in printed
    assert "1 of 3 cases agree" in printed
    assert main([str(tmp_path), "--only", "schedule"]) == 0


def test_a_runner_that_stops_fails_its_case():
    result = run_case(GoldenCase("kd_lr", {}, {"out/loss": np.array(1.0)}))
    assert not result.passed
    assert result.problems[0].startswith("the runner stopped: KeyError")
    assert result.problems[1] == "out/loss: recorded but not compared"
    assert not result.left_out
