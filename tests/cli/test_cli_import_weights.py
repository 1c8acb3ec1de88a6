"""``crkd import-weights`` as users meet it."""

import torch

from crkd_core.config import load_config
from crkd_core.models.backbones import build_backbone
from crkd_core.models.detector import build_detector
from crkd_core.weights.published import export_detector
from tests.support.described import TASKS


def test_a_student_and_a_backbone_are_imported(crkd, workspace, tmp_path):
    config = load_config("tiny")
    student = build_detector(config.student, config.data, TASKS)
    plain = {
        key: tensor for key, tensor in student.state_dict().items() if not key.startswith(("radar.calib", "radar.act"))
    }
    torch.save({"state_dict": export_detector(plain, config.student, config.data)}, tmp_path / "student.pth")
    torch.save(build_backbone(config.student.camera.backbone).state_dict(), tmp_path / "small-resnet.pth")

    result = crkd("import-weights", "student.pth", "--as", "student", "--preset", "tiny")
    assert (result.code, result.out.splitlines()[:2]) == (
        0,
        ["imported  crkd-workspace/distill/plain", "model     student_r50"],
    )
    # The workspace now keeps to the imported student's configuration.
    result = crkd("import-weights", "small-resnet.pth", "--as", "backbone", "--quiet")
    assert result.code == 0
    assert "crkd-workspace/import-weights/small-resnet" in result.out
    assert result.err == ""
    status = crkd("status").out
    assert "distill/plain" in status
    assert "import-weights/small-resnet" in status


def test_mistakes_are_one_sentence_and_exit_2(crkd, tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "other.pth")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    for file, words in (
        ("none.pth", "there is no checkpoint file none.pth"),
        ("other.pth", "of no known model"),
        ("module.pth", "would execute code"),
    ):
        result = crkd("import-weights", file, "--as", "teacher")
        assert result.code == 2
        assert words in result.err.replace("\n", " ")
        assert "Traceback" not in result.err
    assert crkd("import-weights", "other.pth", "--as", "champion").code == 2
    assert not (tmp_path / "crkd-workspace").exists()
