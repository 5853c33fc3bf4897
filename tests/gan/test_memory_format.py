"""Maps and their gradients keep one memory format through a step: an operation on two of them that differ is many times slower."""

import pytest
import torch
import torch.fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gan.kernels import conv2d
from gan.models.build import build, resolve
from gan.models.upsampling import filler
from gan.padding import PADDINGS
from gan.processes import Processes
from gan.state import Batches, State
from gan.step import Step

BATCH = 5
POINTWISE = ("relu", "threshold", "batch_norm", "add", "mul", "tanh", "clamp")


def order_of(x):
    """'channels_last', 'contiguous', or None where x could be either or neither."""
    last, plain = x.is_contiguous(memory_format=torch.channels_last), x.is_contiguous()
    return None if last == plain else "channels_last" if last else "contiguous"


class Orders(TorchDispatchMode):
    """Notes the orders of the maps (of a batch or of two) that each pointwise operation and norm takes and gives."""

    def __init__(self):
        super().__init__()
        self.mixed, self.seen = [], set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = str(function)
        if any(word in name for word in POINTWISE):
            tensors = [x for x in tree_leaves((args, result)) if isinstance(x, torch.Tensor)]
            maps = [x for x in tensors if x.dim() == 4 and x.shape[0] in (BATCH, 2 * BATCH) and x.shape[1] > 3]
            orders = {order_of(x) for x in maps} - {None}
            self.seen |= orders
            if len(orders) > 1:
                self.mixed.append((name, [tuple(x.shape) for x in maps]))
        return result


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("family", ["dcgan", "sngan"])
def test_other_tools_take_the_networks(tiny, family, channels_last):
    """torch.fx, and an ensemble of generators in one call."""
    order = torch.channels_last if channels_last else torch.contiguous_format
    networks = build(resolve(tiny(family, "generator.kernel=c2sp")))
    generator, discriminator = (net.eval().to(memory_format=order) for net in networks)
    z = torch.randn(2, generator.latent)
    images = generator(z).detach()
    torch.testing.assert_close(torch.fx.symbolic_trace(discriminator)(images), discriminator(images))

    weights = {name: torch.stack([w, w]) for name, w in (*generator.named_parameters(), *generator.named_buffers())}
    each = torch.vmap(lambda w: torch.func.functional_call(generator, w, (z,)))(weights)
    torch.testing.assert_close(each, images.expand(2, *images.shape), rtol=1e-4, atol=1e-4)


def test_bilinear_doubling_keeps_the_order_of_its_map():
    x = torch.randn(2, 8, 4, 4).contiguous(memory_format=torch.channels_last)
    assert all(order_of(filler("bilinear", p)(x)) == "channels_last" for p in PADDINGS)


@pytest.mark.parametrize("mode", PADDINGS)
def test_maps_of_few_channels_keep_their_order(mode):
    """Three channels leave one of the four groups empty."""
    x = torch.randn(2, 3, 6, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    y = conv2d("c2sp", 3, 8, padding_mode=mode).pad(x)
    assert order_of(y) == "channels_last" and y.shape == (2, 3, 7, 7)
    (grad,) = torch.autograd.grad(y, x, torch.randn_like(y))
    assert order_of(grad) == "channels_last"


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("kernel", ["c2", "c2sp", "c3"])
@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("dcgan", ["generator.upsampling=transposed"]),
        ("dcgan", ["generator.upsampling=nearest", "generator.flat_layers=1"]),
        ("cnn", ["generator.upsampling=nearest"]),
        ("sngan", ["generator.upsampling=nearest", "generator.flat_layers=1"]),
        ("sngan", ["generator.upsampling=unpool"]),
        ("sngan", ["generator.upsampling=unpool", "train.fused=false"]),
        ("sngan", ["generator.padding=reflect"]),
        ("sngan", ["generator.upsampling=bilinear", "generator.padding=reflect"]),
        ("sngan", ["generator.upsampling=binomial", "generator.padding=reflect"]),
        ("landscape", []),
        ("landscape", ["generator.padding=reflect"]),
        ("wgan_gp", ["objective.gradient_penalty=0"]),  # the second derivative of PyTorch's average pool has zeros of its own order
        ("r3", []),
    ],
)
def test_a_step_keeps_the_order_of_its_maps(tiny, family, settings, kernel, channels_last):
    settings = [f"generator.kernel={kernel}", f"train.batch_size={BATCH}", f"train.channels_last={channels_last}", *settings]
    config, alone = resolve(tiny(family, *settings)), Processes(0, 1, torch.device("cpu"))
    step = Step(config, alone, State(config, alone), Batches(config, alone))
    with Orders() as orders:
        step()
    assert not orders.mixed
    assert "channels_last" in orders.seen if channels_last else "contiguous" in orders.seen
