"""What the documents promise: examples run, commands are understood, numbers are those of the committed runs."""

import ast
import re
import shlex
from collections.abc import Callable
from urllib.parse import unquote

import pytest
import results
import torch
from copied import CBAM, ECAAttention, MultiHeadAttention, SEAttention, SelfAttention
from helpers import ATTENTION, ROOT, SCRIPTS, load
from torch import nn
from torchvision.models import resnet18

PATHS = ["README.md", "docs/using.md", "docs/attention.md", "docs/README.zh-CN.md", "benchmarks/README.md"]
DOCUMENTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in (*PATHS, "plots/README.md")}
README, USING, LESSON, CHINESE = (DOCUMENTS[name] for name in PATHS[:4])
resnet = load("ResNet-18")
SMALL = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
every_document = pytest.mark.parametrize("document", DOCUMENTS)


def example(containing: str, document: str = README) -> str:
    [code] = [code for code in re.findall(r"```python\n(.*?)```", document, re.DOTALL) if containing in code]
    return code


def recipe(listed: str, block: type[nn.Module], insert: Callable) -> nn.Module:
    """The network that a recipe of the README makes with a block; the ResNets' script puts it in the same places."""
    names = {block.__name__: block}
    exec(example(f"# paste the class here: {listed}").replace(f"{listed}(", f"{block.__name__}("), names)
    with torch.device("meta"):
        insert(ours := resnet18(num_classes=10), block)
    assert str(names["network"]) == str(ours)
    return names["network"]


@pytest.mark.parametrize("block", [SEAttention, ECAAttention, CBAM])
def test_the_recipe_for_gates_and_the_one_for_pretrained_networks(block):
    network = recipe("SEAttention", block, resnet.insert_gates)
    gates = [module for module in network.modules() if type(module) is block]
    assert len(gates) == 8 and {getattr(gate, "channel", gate).scale for gate in gates} == {2}
    network(SMALL).sum().backward()
    names, network = {}, resnet18(num_classes=10).eval()
    exec(example("class Gradually", USING), names)
    before = network(SMALL)
    for part in network.layer4:
        part.bn2 = nn.Sequential(part.bn2, names["Gradually"](block(512)))
    assert network.eval()(SMALL).equal(before)
    network(SMALL).sum().backward()
    assert all(m.alpha.grad is not None for m in network.modules() if isinstance(m, names["Gradually"]))


@pytest.mark.parametrize("block", [SelfAttention, MultiHeadAttention])
def test_the_recipe_for_attention_leaves_the_network_as_it_was(block):
    plain, network = resnet18(num_classes=10).eval(), recipe("SelfAttention", block, resnet.insert_attention).eval()
    network.layer3, attention = network.layer3
    network.load_state_dict(plain.state_dict())
    network.layer3 = nn.Sequential(network.layer3, attention)
    assert network(SMALL).equal(plain(SMALL))


def test_learned_weights_load(finished, monkeypatch, capsys):
    monkeypatch.chdir(finished["SE-Attention"][1])
    names = {}
    exec(example("load_state_dict", USING), names)
    saved = torch.load("plots/SE-Attention.pt", weights_only=True)["model"]
    assert all(value.equal(saved[key]) for key, value in names["network"].state_dict().items())
    assert capsys.readouterr().out.strip() in ("ant", "bee", "cow")


def test_the_worked_example():
    names = {}
    exec(example("scaled = ", LESSON), names)
    assert names["scores"].tolist() == [4, 1, 0] and names["scaled"].tolist() == [2, 0.5, 0]
    assert names["weights"].tolist() == pytest.approx([0.74, 0.16, 0.10], abs=0.005)
    assert names["result"].tolist() == pytest.approx([7.86, 2.14], abs=0.005)


@pytest.mark.parametrize("script", ATTENTION)
def test_the_lesson_quotes_the_scripts(script):
    section = LESSON.partition(f"### {script}\n")[2].partition("\n### ")[0]
    [quoting] = re.findall(rf"^In `{script}\.py`: .*", section, re.MULTILINE)
    source = (ROOT / f"{script}.py").read_text(encoding="utf-8")
    for quoted in re.findall(r"`([^`]+)`", quoting)[1:]:
        assert quoted in source, quoted


@pytest.mark.parametrize("script", SCRIPTS)
def test_parameters_are_those_of_the_table(script):
    parameters = sum(parameter.numel() for parameter in load(script).build(num_classes=10).parameters())
    for document in (README, CHINESE):
        assert re.search(rf"^\| `{script}.py` \|.*\| {parameters:,} \|$", document, re.MULTILINE)


def test_the_tables_are_those_of_the_committed_runs():
    summary, *others = sorted(results.tables(), key=lambda table: table != results.summary())
    assert summary in README
    assert [table for table in others if table not in DOCUMENTS["benchmarks/README.md"]] == []


@every_document
def test_every_interval_stands_in_a_table_of_the_runs(document):
    tables = "\n".join(results.tables()).replace("**", "")
    text = re.sub(r"^\|.*(Max-Gate|in its place).*", "", DOCUMENTS[document], flags=re.MULTILINE)  # an example's
    quoted = re.findall(r"[+-]?\d+\.\d\d ± \d+\.\d\d", text)
    assert [interval for interval in quoted if interval not in tables] == []


def test_the_chinese_readme_has_the_same_code_and_intervals():
    for pattern in (r"^```.*?^```", r"[+-]\d+\.\d\d ± \d+\.\d\d"):
        english, chinese = (re.findall(pattern, text, re.DOTALL | re.MULTILINE) for text in (README, CHINESE))
        assert sorted(english) == sorted(chinese)


def commands() -> list[str]:
    """What the documents say to type after `python`, once each, but for `My-Attention.py`, which the reader writes."""
    found = re.findall(r"^python (.+)$|`python ([^`]+)`", "\n".join(DOCUMENTS.values()), re.MULTILINE)
    typed = {fenced or inline for fenced, inline in found} - {"-m pytest"}
    return sorted(line for line in typed if "My-Attention" not in line)


@pytest.mark.parametrize("command", commands())
def test_commands_are_understood(command, typed):
    """Up to the work that they would start, where `--help` ends them."""
    script, *flags = shlex.split(command)
    result = typed(ROOT / script, *flags, "--help")
    assert (result.status, result.err) == (0, "")
    assert set(re.findall(r"(?<!\S)--[a-z-]+", command)) <= set(re.findall(r"--[a-z-]+", result.out))


def test_every_flag_is_explained(typed):
    usage = typed(ROOT / "SE-Attention.py", "--help").out
    listed = re.findall(r"^\| `(--[a-z-]+)`", USING, re.MULTILINE)
    assert set(re.findall(r"--[a-z-]+", usage)) - {"--help"} == set(listed)
    docstring = ast.get_docstring(ast.parse((ROOT / "SE-Attention.py").read_text(encoding="utf-8")))
    assert docstring.partition("\n")[0] in " ".join(usage.split())


@every_document
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)", DOCUMENTS[document]):
        assert target.startswith("https://") or ((ROOT / document).parent / unquote(target)).exists(), target
