"""Names of the stages of fitting and tuning on a progress bar."""

FIT_STAGES = {
    "write": "writing calibration text",
    "read": "reading calibration text",
    "fit": "fitting the head's estimator",
    "choose": "choosing its rank and sigma",
    "measure": "measuring the head",
    "time": "timing the heads",
}
TUNE_STAGES = {
    "neurons": "looking at the neurons",
    **FIT_STAGES,
    "time channels": "timing input channels",
    "fit channels": "fitting thresholds",
    "measure places": "measuring each place",
    "combine": "measuring them together",
    "verify": "verifying on the other half of the text",
}
