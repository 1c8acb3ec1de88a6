"""Every recorded case beside the repository agrees; and the runner notices when one does not."""

import json
import os

import numpy as np
import pytest

from tests.parity.__main__ import main
from tests.parity.cases import DATA, case_name, case_paths, find_cases, load_case, more_cases, read_case
from tests.parity.comparison import Comparison
from tests.parity.golden import GoldenCase
from tests.parity.kinds import KINDS, WHOLE_DETECTORS, WITH_GRADIENTS, find_kind, find_runner
from tests.parity.packing import write_packed
from tests.parity.results import run_case, run_path
from tests.parity.rules import RULES
from tests.parity.subset import PARTS, WHOLE, cut_case

CASES = case_paths()


@pytest.mark.parametrize("name", CASES)
def test_case_agrees(name):
    result = run_path(CASES[name])
    assert result.passed, "\n".join(result.problems)
    assert result.comparison.differences or result.left_out
    if result.left_out:
        pytest.skip(RULES[result.comparison.rules[0]])


def committed_cases() -> list[GoldenCase]:
    return [read_case(path) for path in find_cases(DATA)]


def test_every_operator_is_compared_in_a_public_clone():
    kinds: dict[str, list[GoldenCase]] = {}
    for case in committed_cases():
        kinds.setdefault(find_kind(case), []).append(case)
    assert kinds.keys() == KINDS.keys() - WHOLE_DETECTORS
    assert all(any(case.keys("out") for case in cases) for cases in kinds.values())
    assert {kind for kind, cases in kinds.items() if any(case.keys("grad") for case in cases)} >= WITH_GRADIENTS


def test_the_committed_cases_are_small_and_described():
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 3_000_000
    described = (DATA / "README.md").read_text()
    assert [path.name for path in find_cases(DATA) if f"`{case_name(path)}`" not in described] == []


@pytest.mark.skipif("CRKD_GOLDENS" not in os.environ, reason="CRKD_GOLDENS names no folder")
def test_a_folder_that_is_named_has_cases():
    assert more_cases().is_dir(), f"CRKD_GOLDENS={os.environ['CRKD_GOLDENS']} is no folder"
    assert list(find_cases(more_cases())), f"no recorded cases in {more_cases()}"


RECORDED = {path.stem for path in find_cases(more_cases())} if more_cases() else set()


@pytest.mark.skipif(not RECORDED, reason="CRKD_GOLDENS names no folder with the whole record")
@pytest.mark.parametrize("name", sorted(RECORDED & {*WHOLE, *PARTS}) or [None])
def test_committed_numbers_are_the_recorded_ones(name):
    expected = cut_case(read_case(more_cases() / f"{name}.npz"))
    committed = read_case(DATA / f"{expected.name}.xz")
    assert (committed.name, committed.config) == (expected.name, expected.config)
    assert committed.arrays.keys() == expected.arrays.keys()
    for key, values in expected.arrays.items():
        assert committed.arrays[key].dtype == values.dtype
        np.testing.assert_array_equal(committed.arrays[key], values)


def test_no_case_runs_twice_and_all_of_another_folder_run(monkeypatch, tmp_path):
    for name in ("gaussian", "another_gaussian"):
        (tmp_path / f"{name}.json").write_text("{}")
    monkeypatch.setenv("CRKD_GOLDENS", str(tmp_path))
    committed = {case_name(path): path for path in find_cases(DATA)}
    assert case_paths() == committed | {"another_gaussian": tmp_path / "another_gaussian.npz"}


def test_packing_keeps_every_bit(tmp_path):
    arrays = {
        "in/numbers": np.array([[1.5, np.nan], [-0.0, np.inf]], np.float32),
        "in/nothing": np.zeros((0, 3), np.int64),
        "in/names": np.array(["car", "traffic_cone"]),
        "out/one": np.array(3, np.uint8),
        "out/half": np.float16([0.1]),
    }
    write_packed(tmp_path / "kd_lr_part.xz", GoldenCase("kd_lr_part", {"B": 1}, arrays, "made up"))
    case = read_case(tmp_path / "kd_lr_part.xz")
    assert (case.name, case.config, case.description) == ("kd_lr_part", {"B": 1}, "made up")
    assert {key: (a.dtype, a.shape, a.tobytes()) for key, a in case.arrays.items()} == {
        key: (a.dtype, a.shape, a.tobytes()) for key, a in arrays.items()
    }


def test_a_damaged_file_fails_its_case(tmp_path):
    (tmp_path / "kd_lr.xz").write_bytes(b"nothing of the kind")
    assert run_path(tmp_path / "kd_lr.xz").problems[0].startswith("cannot be read: LZMAError")


def case_of(**arrays) -> GoldenCase:
    return GoldenCase("made", {}, {key.replace("__", "/"): np.asarray(value) for key, value in arrays.items()})


def compared(values, recorded, key="out__a", **options) -> bool:
    comparison = Comparison(case_of(**{key: recorded}))
    comparison.check(key.replace("__", "/"), np.asarray(values), **options)
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


def test_a_disturbed_case_fails():
    case = load_case("gatedfuser")
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
