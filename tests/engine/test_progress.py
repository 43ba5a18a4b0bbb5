from evenseg.engine.progress import StepProgress


def test_an_evaluation_before_the_first_row_of_training_shows_no_loss(capsys):
    progress = StepProgress(10, "CE")
    progress.start()
    progress.evaluated(2, 0.25)
    progress.loss = 0.5
    progress.evaluated(4, 0.3)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("CE: step 2/10 mIoU 0.2500 (")
    assert second.startswith("CE: step 4/10 loss 0.5000 mIoU 0.3000 (")
