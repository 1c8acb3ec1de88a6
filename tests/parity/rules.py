"""Where we differ from the published code on purpose, and what the runners do about it.

A row of the table names the rules that its case needed; the reasons are printed below the table. ``option``: our
public module repeats the published behaviour when told to. ``left out``: the entries named are not compared.
"""

RULES = {
    "truncate": "option (data.grid.rounding = truncate): the published code truncates where we floor, so that one more "
    "cell below the lower borders falls into the first one; in z this doubles the pooled range",
    "ambiguous": "left out: the cells that the recording itself marks as depending on a coordinate's last bit; behind "
    "them (after convolutions) the cells they reach. Whole detectors go on from the recorded value there",
    "last-bit": "the published geometry is composed in single precision, ours in double; where that moves frustum "
    "points or LiDAR pixels across a border, the runner gives our view transform the published rounding",
    "in-place": "the published call shifts or scales its caller's tensor; ours leaves it alone, and what was recorded "
    "is compared with what our module computes from it",
    "as-rectified": "the published fuser's first output is overwritten by its ReLU; compared with our rectified map",
    "released-masks": "option (distill.msfd.mask = released): the published rectangles shrink with the box's angle",
    "released-columns": "option (data.released_radar_augmentation): the published code turns rcs and vx, not vx and vy",
    "released-cosine": "option (train.cosine = epoch): the published cosine moves between epochs only",
    "teacher-train": "option (distill.released_quirks = teacher_train_mode): the published teacher normalises by batch",
    "double-sigmoid": "the published code in pure float32 feeds probabilities where logits are meant, which cannot "
    "train; the runner feeds ours the same",
    "not-finite": "left out: box terms and gradients that the published loss makes NaN or infinite of unknown "
    "velocities or zero heights; ours leaves such targets out of the term",
    "half": "recorded in half precision, ours computes in float32: tolerance 1e-3, as the recording says",
    "shifted-points": "the published teacher's camera branch shifts the LiDAR points in place before they are "
    "voxelised; the runner gives our LiDAR branch shifted points",
    "near-ties": "boxes of one class whose scores differ by less than 1e-5 may stand in either order",
    "no-repeat": "the published loader repeats a lone key frame for the missing sweeps; we read it once: compared as "
    "sets of points",
    "pixels": "only the kept part of an image is resized, which moves values by at most one grey level of 255, and not "
    "more than 0.5% of them",
    "unknown-class": "left out: boxes of classes that are not detected (label -1), which we never read",
    "unused-columns": "left out: of the 58 radar columns that the published loader makes, those that no model uses",
    "unused-option": "left out: the published loader's option to normalise radar columns, off in every setting",
    "uncompensated": "the published loader's option not to move points by their velocity: the runner places sweeps "
    "with age 0 and fills in the age",
    "preselected": "the runner applies the devkit's radar filter, which no setting uses, before our features",
    "range-filter": "the published result writer drops boxes beyond the classes' ranges, ours leaves that to the "
    "official evaluation: the runner drops them",
    "planar-velocity": "left out: the vertical part of rotated velocities; nuScenes results have two components",
    "classifier-norm": "left out: the norm in front of the ImageNet classifier, which no returned map passes",
    "noise-positions": "left out: the recording fills the tables of relative positions, which are passed through, with "
    "noise; our import computes them and refuses others, so the runner gives it the true ones",
    "zero-gradient": "biases in front of batch norm in training mode have no gradient but for rounding; compared "
    "with the scale of their layer's other gradients",
    "deep-gradients": "a ReLU whose input is within rounding of zero passes a gradient or not by the last bit, and one "
    "of them on a map of few cells moves every gradient behind it by a hundredth; with the signs held fixed, rounding "
    "moves none by more than 1e-4. The runner switches exactly these inputs and holds each gradient to three times "
    "what that does to it, at least 1e-3 and at most 5e-2",
    "first-norm": "no neck uses the first Swin stage, so ours has no norm for it: the runner applies the recorded one",
}
