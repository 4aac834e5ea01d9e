"""Foreign files, foreign settings, odd pictures: what others left does not stop a run, nor is it misread."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import ROOT, make_tree, run
from PIL import Image

from common import load_data
from support.image_tree import read_picture


def test_odd_files_in_the_output_folder(tree, tmp_path):
    plots = tmp_path / "plots"
    plots.mkdir()
    assert run("CNN", "--data", tree, "--epochs", 1, cwd=tmp_path).status == 0
    csv = (plots / "CNN.csv").read_text(encoding="utf-8")
    for name, text in {"blank": csv + "\n\n", "long": csv + f'"{"x" * 200_000}",1\n', "words": "hello\n"}.items():
        (plots / f"{name}.csv").write_text(text, encoding="utf-8")
        (plots / f"{name}.png").write_bytes((plots / "CNN.png").read_bytes())
    (plots / "huge.csv").write_text(csv, encoding="utf-8")
    Image.new("1", (20_000, 20_000)).save(plots / "huge.png")
    for more in ([], ["--resume"]):
        result = run("SE-Attention", "--data", tree, "--epochs", 1, *more, cwd=tmp_path)
        assert (result.status, result.err) == (0, "")


def test_a_user_s_matplotlib_settings_stay_out(tree, tmp_path):
    settings = "text.usetex: True\nfigure.constrained_layout.use: True\n"
    (tmp_path / "matplotlibrc").write_text(settings, encoding="utf-8")
    command = [sys.executable, ROOT / "CNN.py", "--data", tree, "--epochs", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(os.name == "nt", reason="in the words of a POSIX shell")
@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_closed_streams(closed, tree, tmp_path):
    command = f"'{sys.executable}' '{ROOT / 'CNN.py'}' --data '{tree}' --epochs 1 {closed}"
    assert subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True).returncode == 0
    assert (tmp_path / "plots" / "CNN.csv").exists()


def test_a_script_named_comparison_is_refused(tree, tmp_path):
    copy = tmp_path / "comparison.py"
    copy.write_bytes((ROOT / "CNN.py").read_bytes())
    result = run(str(copy), "--data", tree, cwd=tmp_path)
    assert result.status == 2 and "another name" in result.err and result.err.count("\n") == 1


@pytest.mark.parametrize("names", [("Train", "Test"), ("ant", "bee")])
def test_a_folder_of_pictures_that_is_no_tree_is_asked_about(names, tmp_path):
    folder = tmp_path / "mine"
    for name in names:
        (folder / name).mkdir(parents=True)
    if (folder / "train").is_dir():
        pytest.skip("this file system takes Train for train")
    result = run("CNN", "--data", folder, cwd=tmp_path)
    assert result.status == 2 and result.out == "" and result.err.count("\n") == 1
    assert "small letters" in result.err and sorted(path.name for path in folder.iterdir()) == sorted(names)


@pytest.mark.parametrize(("kind", "name"), [(np.float32, "float.tiff"), (np.int32, "integer.tiff")])
def test_pictures_whose_brightness_is_unknown_are_refused(kind, name, tmp_path):
    folder = make_tree(tmp_path / "tree", train=2, test=1)
    Image.fromarray(np.full((40, 40), 7, kind)).save(folder / "train" / "ant" / name)
    result = run("CNN", "--data", folder, cwd=tmp_path)
    assert result.status == 2 and name in result.err and "8 bits" in result.err and result.err.count("\n") == 1


def test_a_transparent_picture_is_turned_then_laid_on_white(tmp_path):
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[:16] = (10, 20, 30, 255)
    exif = Image.Exif()
    exif[0x0112] = 3  # taken upside down
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    picture = torch.from_numpy(read_picture(tmp_path / "turned.png").copy())
    assert picture[:16].unique().tolist() == [255] and picture[16:].reshape(-1, 3).unique(dim=0).tolist() == [
        [10, 20, 30]
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
def test_names_that_are_not_utf8(tmp_path):
    folder = make_tree(tmp_path / "tree", train=2, test=1)
    for split in ("train", "test"):
        os.rename(folder / split / "ant", os.fsencode(folder / split) + b"/caf\xe9")
    assert any("\ufffd" in name for name in load_data(str(folder)).classes)
    assert run("CNN", "--data", folder, "--epochs", 1, cwd=tmp_path, attention=True).status == 0


def test_nan_in_the_first_epoch(tree, tmp_path):
    source = (ROOT / "SE-Attention.py").read_text(encoding="utf-8")
    copy = tmp_path / "Mine.py"
    copy.write_text(source.replace("return x * self.gate(x)[", "return x * float('nan') * self.gate(x)["), "utf-8")
    result = run(str(copy), "--data", tree, cwd=tmp_path)
    assert result.status == 1 and result.err.count("\n") == 1
    assert "nan in what" in result.err and "kept" not in result.err
