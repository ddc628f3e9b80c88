"""Files of PyTorch networks: what is read, and that nothing in them is run."""

import io
import json
import pickle
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bfjax import models
from bfjax.models import torch_files
from tests.models.parity import draw_images, import_torch

SIDE = 16
SAVED = r"save it with torch\.export\.save\(torch\.export\.export\(net\.eval\(\), "


def zipped(path, **contents):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name.replace("__", "/"), content)
    return path


def plain(path):
    path.write_bytes(pickle.dumps({"state_dict": [1]}))
    return path


def legacy(path):
    """How PyTorch wrote before 1.6: pickles one after the other."""
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + pickle.dumps(1001))
    return path


def text(path):
    path.write_text("Dear radiologist,")
    return path


# what lies there -> what is said of it; it looks like the real thing, and needs no PyTorch
REFUSED = {
    "net.pt": (lambda p: zipped(p, net__code__net="", net__data="", **{"net__data.pkl": ""}),
               "is TorchScript: load the network in PyTorch"),
    "weights.pth": (lambda p: zipped(p, **{"w__data.pkl": "", "w__data__0": ""}), "is a pickle"),
    "last.ckpt": (plain, "is a pickle, which may run any code when it is read"),
    "pytorch_model.bin": (legacy, "is a pickle"),
    "model.pth.tar": (plain, "is a pickle"),
    "old.pt2": (lambda p: zipped(p, version="5", **{"serialized_exported_program.json": ""}),
                "was written by PyTorch 2.7 or older"),
    "text.pt2": (text, "is no file of torch.export.save"),
    "empty.pt2": (lambda p: zipped(p, any=""), "is no file of torch.export.save"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_exported_network_is_refused_with_the_way_out(name, tmp_path):
    make, told = REFUSED[name]
    path = make(tmp_path / name)
    assert models.is_torch_file(path)
    with pytest.raises(ValueError, match=rf"^.*{name} {told}.*{SAVED}") as caught:
        models.load_torch(path)
    assert "\n" not in str(caught.value)


def test_other_files_are_not_taken_for_torchs(tmp_path):
    np.savez(tmp_path / "a.npz", np.ones(3))
    folder = tmp_path / "last.ckpt"
    folder.mkdir()
    for path in (tmp_path / "a.npz", text(tmp_path / "a.txt"), folder, tmp_path / "none"):
        assert not models.is_torch_file(path)
    with pytest.raises(FileNotFoundError, match=r"none\.pt2 does not exist"):
        models.load_torch(tmp_path / "none.pt2")


def test_without_torch_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    path = zipped(tmp_path / "net.pt2", net__archive_format="pt2")
    with pytest.raises(ImportError, match=r"net\.pt2: .*pip install 'bfjax\[torch\]'"):
        models.load_torch(path)


def small(channels=1):
    """A network of which PyTorch computes a part that depends on no image."""
    torch = import_torch()
    nn = torch.nn
    torch.manual_seed(0)
    layers = [nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)).eval()


def saved(path, network, channels=1, batch=1, **options):
    torch = import_torch()
    example = (torch.zeros(batch, channels, SIDE, SIDE),)
    torch.export.save(torch.export.export(network, example, **options), path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fixed", [True, False])
def test_an_exported_network_answers_as_torch_does(tmp_path, channels, fixed):
    torch, network = import_torch(), small(channels)
    options = {} if fixed else {"dynamic_shapes": ({0: torch.export.Dim("batch")},), "batch": 2}
    path = saved(tmp_path / "net.pt2", network, channels, **options)
    predict, side = models.load_torch(path)
    assert side == SIDE
    images = draw_images(3, SIDE, SIDE, 1)
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).requires_grad_()
    logits = network(x.expand(-1, channels, -1, -1))
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), x)
    found = jax.vmap(predict)(jnp.asarray(images))
    np.testing.assert_allclose(found, logits.detach(), rtol=1e-4, atol=1e-5)
    slope = jax.vmap(jax.grad(lambda image: predict(image)[0]))(jnp.asarray(images))
    np.testing.assert_allclose(slope, gradient.numpy().transpose(0, 2, 3, 1), rtol=1e-3, atol=1e-6)


def test_a_network_for_any_size_is_told_its_size(tmp_path):
    torch = import_torch()
    sides = {2: torch.export.Dim("h", min=8, max=64), 3: torch.export.Dim("w", min=8, max=64)}
    path = saved(tmp_path / "net.pt2", small(), dynamic_shapes=(sides,))
    with pytest.raises(ValueError, match=r"net\.pt2 cannot be used: .*image_size"):
        models.load_torch(path)
    assert models.load_torch(path, image_size=24).image_size == 24


def test_constants_and_buffers_are_read(tmp_path):
    torch = import_torch()

    class Shifted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scale", torch.tensor([2.0, 3.0]), persistent=False)
            self.shift = torch.tensor([5.0, 7.0])

        def forward(self, x):
            return x.mean((2, 3)) * self.scale + self.shift

    path = saved(tmp_path / "net.pt2", Shifted().eval())
    predict, _ = models.load_torch(path)
    np.testing.assert_allclose(predict(jnp.ones((SIDE, SIDE, 1))), [7, 10], rtol=1e-6)


def test_what_from_torch_refuses_names_the_file(tmp_path):
    torch = import_torch()

    class Sorts(torch.nn.Module):
        def forward(self, x):
            return x.mean((2, 3)) + torch.special.bessel_j0(x).mean((2, 3))

    path = saved(tmp_path / "net.pt2", Sorts().eval())
    with pytest.raises(ValueError, match=r"net\.pt2 cannot be used: .*bessel_j0"):
        models.load_torch(path)


class Touches:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def altered(path, part, change):
    """A `.pt2` file with one part changed, or added."""
    source = zipfile.ZipFile(path)
    parts = {name: source.read(name) for name in source.namelist()}
    whole = f"{next(iter(parts)).partition('/')[0]}/{part}"
    parts[whole] = change(parts.get(whole, b""))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    path.write_bytes(made.getvalue())
    return path


def test_samples_are_not_unpickled(tmp_path):
    path, made = saved(tmp_path / "net.pt2", small()), tmp_path / "made"
    evil = pickle.dumps(Touches(made))
    altered(path, "data/sample_inputs/model.pt", lambda _: evil)
    assert models.load_torch(path).image_size == SIDE
    assert not made.exists()
    pickle.loads(evil).close()  # what PyTorch itself would have done
    assert made.exists()


@pytest.mark.parametrize(
    "part",
    ["data/SAMPLE_INPUTS/model.pt", "DATA/sample_inputs/model.pt", "data/weights/WEIGHT_0",
     "extra/anything.pt", "models/Model.json"],
)  # fmt: skip
def test_what_only_looks_like_a_part_is_left_out(tmp_path, part):
    """PyTorch finds parts whatever their letters, and unpickles some."""
    path, made = saved(tmp_path / "net.pt2", small()), tmp_path / "made"
    with zipfile.ZipFile(path) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    parts.pop("net/data/sample_inputs/model.pt")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
        archive.writestr(f"net/{part}", pickle.dumps(Touches(made)))
    kept = zipfile.ZipFile(torch_files._harmless(path)).namelist()
    assert len({name.lower() for name in kept}) == len(kept)
    assert f"net/{part}" not in kept
    assert models.load_torch(path).image_size == SIDE
    assert not made.exists()


def test_an_older_archive_that_says_it_is_a_newer_one_is_refused(tmp_path):
    """PyTorch falls back to unpickling where the first part lies in no folder."""
    import_torch()
    made, path = tmp_path / "made", tmp_path / "net.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", "8.8")
        archive.writestr("net/archive_format", "pt2")
        for name in ("state_dict.pt", "constants.pt", "example_inputs.pt"):
            archive.writestr(f"serialized_{name}", pickle.dumps(Touches(made)))
        archive.writestr("serialized_exported_program.json", "{}")
    with pytest.raises(ValueError, match=r"net\.pt2 cannot be used"):
        models.load_torch(path)
    assert not made.exists()


def in_graph(change):
    def changed(content):
        model = json.loads(content)
        change(model)
        return json.dumps(model).encode()

    return changed


def of_weights(**about):
    def changed(content):
        config = json.loads(content)
        config["config"]["0.weight"] |= about
        return json.dumps(config).encode()

    return changed


def node(**about):
    return in_graph(lambda m: m["graph_module"]["graph"]["nodes"][0].update(about))


def renamed(model):
    """Another name of the image, which becomes a line of Python."""
    text = json.dumps(model).replace('"input"', '"input=open(chr(120)).close()"')
    model.clear()
    model.update(json.loads(text))


def expression(model):
    sizes = model["graph_module"]["graph"]["tensor_values"]["input"]["sizes"]
    sizes[0] = {"as_expr": {"expr_str": "exec('x')", "hint": {"as_int": 1}}}


def importing(model):
    """A kind of node whose context names a module, which is then imported."""
    (signature,) = (one["signature"] for one in model["graph_module"]["module_call_graph"]
                    if one["signature"] is not None)  # fmt: skip
    context = json.dumps({"__enum__": True, "fqn": "evil:x", "name": "y"})
    spec = {"type": "builtins.tuple", "context": context, "children_spec": []}
    signature["out_spec"] = json.dumps([1, spec])


CONFIG = "data/weights/model_weights_config.json"
GRAPH = "models/model.json"


@pytest.mark.parametrize(
    ("part", "change", "told"),
    [
        (CONFIG, of_weights(use_pickle=True), "its 0.weight is pickled"),
        (CONFIG, of_weights(path_name="custom_obj_0"), "its 0.weight is pickled"),
        ("data/weights/model.pt", lambda _: b"", r"its data/weights/model\.pt is pickled"),
        ("data/constants/model.pt", lambda _: b"", r"its data/constants/model\.pt is pickled"),
        ("data/aotinductor/m/m.so", lambda _: b"", r"its data/aotinductor/m/m\.so is .* compiled"),
        (GRAPH, node(target="torch.load"), "its target 'torch.load' may be code"),
        (GRAPH, node(target="torch.ops.aten.__class__.mro"), "may be code"),
        (GRAPH, node(target="_operator.attrgetter"), "may be code"),
        (GRAPH, in_graph(renamed), r"its \w+ 'input=open"),
        (GRAPH, in_graph(expression), "its expr_str \"exec"),
        (GRAPH, in_graph(importing), "its out_spec .* may be code"),
    ],
)  # fmt: skip
def test_what_would_run_code_is_refused(tmp_path, part, change, told):
    path = altered(saved(tmp_path / "net.pt2", small()), part, change)
    with pytest.raises(ValueError, match=rf"net\.pt2 cannot be used: .*{told}"):
        models.load_torch(path)


def test_guards_are_not_run(tmp_path):
    path, made = saved(tmp_path / "net.pt2", small()), tmp_path / "made"
    change = in_graph(lambda m: m["guards_code"].append(f"open({str(made)!r}, 'w')"))
    assert models.load_torch(altered(path, GRAPH, change)).image_size == SIDE
    assert not made.exists()


@pytest.mark.parametrize("keep", [100, 0.5, 0.95])
def test_a_damaged_file_is_one_line(tmp_path, keep):
    path = saved(tmp_path / "net.pt2", small())
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if keep > 1 else int(keep * len(whole))])
    with pytest.raises(ValueError, match=r"net\.pt2 ") as caught:
        models.load_torch(path)
    assert "\n" not in str(caught.value)


def test_a_zip_with_a_damaged_list_is_one_line(tmp_path):
    path = zipped(tmp_path / "net.pt2", net__archive_format="pt2")
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 1] ^= 1
    path.write_bytes(content)
    models.is_torch_file(path)
    with pytest.raises(ValueError, match=r"net\.pt2 is no file of torch\.export\.save"):
        models.load_torch(path)


@pytest.mark.parametrize("kind", ["module", "weights", "script"])
def test_what_torch_writes_otherwise_is_refused(tmp_path, kind):
    torch, network, path = import_torch(), small(), tmp_path / "net.pt"
    if kind == "script":
        with pytest.warns(DeprecationWarning, match="torch.jit"):
            torch.jit.save(torch.jit.trace(network, torch.zeros(1, 1, SIDE, SIDE)), path)
    else:
        torch.save(network if kind == "module" else network.state_dict(), path)
    told = "is TorchScript" if kind == "script" else "is a pickle"
    with pytest.raises(ValueError, match=told):
        models.load_torch(path)
