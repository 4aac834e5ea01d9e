"""What the README promises: its examples run, its table of flags is the program's."""

import ast
import inspect
import math
import re
import shlex
from importlib import import_module
from statistics import mean
from urllib.parse import unquote

import gains
import pytest
import results
import torch
from helpers import ATTENTION, ROOT, SCRIPTS, load, run
from torch import nn
from torchvision.models import resnet18, resnet50

DOCUMENTS = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", "docs/README.zh-CN.md", "plots/README.md", "benchmarks/README.md", "docs/attention.md")
}
README = DOCUMENTS["README.md"]


def example(containing: str, document: str = README) -> str:
    [code] = [code for code in re.findall(r"```python\n(.*?)```", document, re.DOTALL) if containing in code]
    return code


BLOCKS = {
    "SEAttention": load("SE-Attention").SEAttention,
    "ECAAttention": load("ECA-Attention").ECAAttention,
    "CBAM": load("CBAM-Attention").CBAM,
    "SelfAttention": load("Self-Attention").SelfAttention,
    "MultiHeadAttention": load("Multi-Head Attention").MultiHeadAttention,
    "STN": load("STN-Attention").STN,
}
SMALL = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def last_norms(network: nn.Module) -> list[tuple[nn.Module, str]]:
    """The last batch norm of each residual branch of a torchvision ResNet, as (block, attribute)."""
    blocks = [block for stage in ("layer1", "layer2", "layer3", "layer4") for block in getattr(network, stage)]
    return [(block, "bn3" if hasattr(block, "bn3") else "bn2") for block in blocks]


def recipe(containing: str, **replaced: str) -> str:
    """A recipe of the README with classes replaced by others, and their source pasted where it says so."""
    code = example(containing)
    for old, new in replaced.items():
        code = code.replace(f"{old}(", f"{new}(")
    sources = [
        inspect.getsource(part)
        for name, block in BLOCKS.items()
        if f"{name}(" in code
        for part in vars(inspect.getmodule(block)).values()  # CBAM comes with its two halves
        if inspect.isclass(part) and part.__module__ == block.__module__
    ]
    [paste] = re.findall(r"^# paste the class.*\n", code, re.MULTILINE)
    return code.replace(paste, "\n".join(sources))


@pytest.mark.parametrize("gate", ["SEAttention", "ECAAttention", "CBAM"])
def test_the_recipe_for_a_resnet(gate):
    names = {"math": math}  # which ECA's script imports
    exec(recipe("block.bn2 =", SEAttention=gate), names)
    network = names["network"]
    for block, norm in last_norms(network):
        assert [type(module).__name__ for module in getattr(block, norm)] == ["BatchNorm2d", gate]
    network(SMALL).sum().backward()
    torch.testing.assert_close(torch.fx.symbolic_trace(network.eval())(SMALL), network(SMALL))


@pytest.mark.parametrize("after_stage", ["SelfAttention", "MultiHeadAttention"])
def test_the_recipe_for_a_whole_stage(after_stage):
    """The network stays the one that it was."""
    names = {}
    first, start, insert = re.split(
        r"(?<=\n)(network = .*\n)", recipe("network.layer3 =", SelfAttention=after_stage), maxsplit=1
    )
    exec(first, names)
    torch.manual_seed(0)
    exec(start, names)
    before = names["network"].eval()(SMALL)
    exec(insert, names)
    network = names["network"].eval()
    assert network(SMALL).equal(before)
    torch.testing.assert_close(torch.fx.symbolic_trace(network)(SMALL), before)


@pytest.mark.parametrize("resnet", [resnet18, resnet50])
@pytest.mark.parametrize("gate", ["SEAttention", "ECAAttention", "CBAM"])
def test_wrapped_gates_leave_a_pretrained_network_as_it_was(gate, resnet):
    names = {}
    exec(example("class Gradually"), names)
    torch.manual_seed(0)
    network = resnet(num_classes=10).eval()
    before = network(SMALL)
    for block, norm in last_norms(network):
        plain = getattr(block, norm)
        setattr(block, norm, nn.Sequential(plain, names["Gradually"](BLOCKS[gate](plain.num_features))))
    assert network.eval()(SMALL).equal(before)
    network(SMALL).sum().backward()
    assert all(m.alpha.grad is not None for m in network.modules() if isinstance(m, names["Gradually"]))


def test_the_worked_example():
    names = {}
    exec(example("scaled = ", DOCUMENTS["docs/attention.md"]), names)
    assert names["scores"].tolist() == [4, 1, 0] and names["scaled"].tolist() == [2, 0.5, 0]
    assert names["weights"].tolist() == pytest.approx([0.74, 0.16, 0.10], abs=0.005)
    assert names["result"].tolist() == pytest.approx([7.86, 2.14], abs=0.005)


def test_the_table_of_the_six_has_what_each_block_costs():
    costs = [line.split(" | ") for line in results.costs().splitlines()[2:]]
    for block, parameters, operations in costs:
        [row] = [line for line in DOCUMENTS["docs/attention.md"].splitlines() if line.startswith(f"{block} | ")]
        assert row.split(" | ")[4:6] == [parameters.lstrip("+"), operations.strip("+ |")]


@pytest.mark.parametrize("script", ATTENTION)
def test_the_lesson_quotes_the_scripts(script):
    section = DOCUMENTS["docs/attention.md"].partition(f"### {script}\n")[2].partition("\n### ")[0]
    [quoting] = re.findall(rf"^In `{script}\.py`: .*", section, re.MULTILINE)
    source = (ROOT / f"{script}.py").read_text(encoding="utf-8")
    for quoted in re.findall(r"`([^`]+)`", quoting)[1:]:
        assert quoted in source, quoted


@pytest.mark.parametrize("script", SCRIPTS)
def test_parameters_are_those_of_the_table(script):
    parameters = sum(parameter.numel() for parameter in load(script).build(num_classes=10).parameters())
    assert re.search(rf"^\| `{script}.py` \|.*\| {parameters:,} \|$", README, re.MULTILINE)


def test_the_readme_s_figures_are_the_committed_runs():
    copy, shapes, control = gains.JPEG_COPY, gains.SHAPES, gains.CONTROL
    alone = ["Self-Attention", "Multi-Head Attention", "Trunk-Self-Uniform", "Trunk-Self-Local"]
    looking = [("Self-Attention", "Trunk-Self-Local"), ("Self-Attention", "Trunk-Self-Uniform")]
    of_starts = [gains.STARTS[label][0] for label in ("SE", "ECA", "CBAM", "2 x SE", "2 x ECA", "4 x CBAM")]
    of_starts += [gains.STARTS[f"`Gradually({block})`"][0] for block in ("SE", "ECA", "CBAM")] + ["Trunk-Half"]
    measured = [gains.gains(copy, *pair) for pair in [*((name, control) for name in alone), *looking, (control, "CNN")]]
    measured.append(gains.gains(shapes, *gains.BLOCKS["STN-Attention"]))
    measured += [gains.gains(shapes, name, control, epochs=10) for name in of_starts]
    for differences in measured:
        assert gains.interval(differences) in README
    for name in ("ResNet-8", "ResNet-8-SE", "ResNet-8-CBAM", "ResNet-8-SE-Twice"):
        at_once = mean(gains.read(gains.INSERTED, seed, name)[0].test_acc for seed in range(3))
        assert f" {at_once:.1f}%" in README


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_interval_in_the_text_stands_in_a_table_of_the_runs(document):
    quoted = re.findall(r"\d+\.\d\d ± \d+\.\d\d", re.sub(r"^\|.*", "", DOCUMENTS[document], flags=re.MULTILINE))
    tables = "\n".join(results.tables())
    assert [interval for interval in quoted if interval not in tables] == []


@pytest.mark.parametrize("script", gains.BLOCKS)
def test_a_script_s_header_has_the_committed_runs_gain(script):
    measured = gains.gains(gains.JPEG_COPY, *gains.BLOCKS[script])
    header = ast.get_docstring(ast.parse((ROOT / f"{script}.py").read_text(encoding="utf-8")))
    assert f"{gains.interval(measured)} points" in header and f"{len(measured)} seeds" in header


def test_learned_weights_load(finished, monkeypatch):
    monkeypatch.chdir(finished["SE-Attention"][1])
    names = {}
    exec(example("torch.load").replace("num_classes=10", "num_classes=3"), names)  # the small tree's three
    saved = torch.load("plots/SE-Attention.pt", weights_only=True)["model"]
    assert all(value.equal(saved[key]) for key, value in names["network"].state_dict().items())


@pytest.mark.parametrize(("script", "own"), [("SE-Attention", set()), ("CNN", {"--widths", "--hidden", "--dropout"})])
def test_every_flag_is_explained(script, own, tmp_path):
    usage = run(script, "--help", cwd=tmp_path)
    assert usage.status == 0
    flags = set(re.findall(r"--[a-z-]+", usage.out)) - {"--help"}
    assert flags == set(re.findall(r"^\| `(--[a-z-]+)`", README, re.MULTILINE)) | own


def commands() -> list[str]:
    """What the documents say to type after `python`, once each."""
    text = "\n".join(DOCUMENTS.values())
    found = re.findall(r"^(?:.*&& )?python (.+)$|`python ([^`]+)`", text, re.MULTILINE)
    return sorted({fenced or inline for fenced, inline in found} - {"-m pytest"})


@pytest.mark.parametrize("command", commands())
def test_commands_are_understood(command, tmp_path):
    """Up to the work that they would start, where `--help` ends them."""
    script, *flags = shlex.split(command)
    assert (ROOT / script).exists()
    result = run(str(ROOT / script), *flags, "--help", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")


def anchors(text: str) -> set[str]:
    """What the headings of a document are linked by: in small letters, without punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    for target, heading in re.findall(r"\]\(([^)#]+)(?:#([^)]+))?\)", DOCUMENTS[document]):
        if not target.startswith("https://"):
            path = (ROOT / document).parent / unquote(target)
            assert path.exists(), target
            assert not heading or heading in anchors(path.read_text(encoding="utf-8")), heading


def code_blocks(text: str) -> list[str]:
    return re.findall(r"^```.*?^```", text, re.DOTALL | re.MULTILINE)


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def test_the_chinese_readme_says_the_same():
    """Commands and examples to the letter, every figure, every row of a table, every link."""
    chinese = DOCUMENTS["docs/README.zh-CN.md"]
    assert code_blocks(chinese) == code_blocks(README)
    for mark in (r"^#+ ", r"^\| ", r"^- ", r"\d[\d.,]*\b"):
        ours, theirs = (sorted(re.findall(mark, prose(text), re.MULTILINE)) for text in (README, chinese))
        assert ours == theirs, mark
    inline = [set(re.findall(r"`[^`]+`", prose(text))) for text in (README, chinese)]
    assert inline[0] == inline[1]

    def targets(document: str) -> set:
        links = set(re.findall(r"\]\(([^)]+)\)", DOCUMENTS[document]))
        folder = (ROOT / document).parent
        return {link if "://" in link else (folder / unquote(link.partition("#")[0])).resolve() for link in links}

    both = {(ROOT / name).resolve() for name in ("README.md", "docs/README.zh-CN.md")}
    assert targets("README.md") - both == targets("docs/README.zh-CN.md") - both


def test_requirements_are_what_is_imported():
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").split():
        import_module(line.partition(">")[0])
