# %% [markdown]
# # The graph of a network, and when a GPU helps
#
# A network is a graph of layers. In this tutorial you look at the graph of the [convolutional
# network](convolutional-network.md), find out which layers cost the most, and measure how long
# one step of training takes on your machine. From these measurements you can tell whether a GPU
# (a graphics processor) would make your training faster.
#
# This page was made on a machine without a GPU. Every time on it was measured on a processor
# (CPU) that other programs used as well. If your machine has a GPU, the same cells measure it
# too.

# %% [markdown]
# ## The graph
#
# One epoch is enough to get a network that we can look into. `opsin.inspect` writes a page about
# it, with a picture of its graph.

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import opsin

classes = ["airplane", "automobile", "bird"]
run = opsin.train("cifar10", classes=classes, model="cnn", epochs=1, quiet=True)
inside = opsin.inspect(run, out="inside")
print(inside.page)

# %%
# alt: The graph of the network from top to bottom: a box for each layer with its name, and beside
#   it the shape of its output and its parameters.
picture = plt.imread(inside.files[0])
height, width = picture.shape[:2]
plt.figure(figsize=(width / 140, height / 140))
plt.imshow(picture)
plt.axis("off")
plt.subplots_adjust(0, 0, 1, 1)
plt.show()

# %% [markdown]
# An image goes in at the top and becomes smaller from block to block, while the number of its
# maps grows: 32×32 pixels in 3 colours become 2×2 places in 128 maps. The same table in numbers:

# %%
print(f"{'layer':<16}{'output':>14}{'parameters':>12}{'multiply-adds':>15}")
for row in inside.summary.rows:
    print(f"{row.name:<16}{row.shape!s:>14}{row.parameters:>12,}{row.multiply_adds:>15,}")

# %% [markdown]
# ## What does a layer cost?
#
# A convolution multiplies each weight of each filter once for each place of its output, and adds
# the result to a sum: these are its *multiply-adds*. The second convolution of block 1 has 9×32
# weights in each of its 32 filters, and its output has 30×30 places:

# %%
print(f"{9 * 32 * 32 * 30 * 30:,}")

# %%
# alt: Bars for the layers with multiply-adds: the share of the parameters and of the multiply-adds
#   of each. The first block has few parameters and many multiply-adds; the last, the reverse.
rows = [row for row in inside.summary.rows if row.multiply_adds]
sums = inside.summary
shares = {
    "parameters": [row.parameters / sums.parameters for row in rows],
    "multiply-adds": [row.multiply_adds / sums.multiply_adds for row in rows],
}
places = np.arange(len(rows))
plt.figure(figsize=(7, 0.5 * len(rows) + 0.6))
for offset, (name, colour) in enumerate(zip(shares, ("#0072b2", "#e69f00"), strict=True)):
    plt.barh(places + 0.4 * offset, shares[name], height=0.38, color=colour, label=name)
plt.yticks(places + 0.2, [row.name for row in rows])
plt.gca().invert_yaxis()
plt.gca().spines[["top", "right"]].set_visible(False)
plt.xlabel("share of the whole network")
plt.legend(frameon=False)
plt.show()

# %% [markdown]
# Parameters and multiply-adds are two different things. The last block holds three quarters of the
# parameters, but uses them at few places: for a fifth of the multiply-adds. The first block has few
# parameters and uses them at 900 places or more. Layers without multiply-adds, such as ReLU and
# BatchNorm, are not in the figure. They still take time: they read and write all numbers once.
#
# ## How long does a step take?
#
# A step of training computes the answers to one batch, then the gradient of each weight, then
# changes the weights. We time it for two networks: the dense one of the [first
# tutorial](basic-classification.md), for images in colour, and the convolutional one, here in a
# few lines of PyTorch.


# %%
def block(before, filters):
    return [
        nn.Conv2d(before, filters, 3, padding=1),
        nn.ReLU(),
        nn.BatchNorm2d(filters),
        nn.Conv2d(filters, filters, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.5),
    ]


def dense():
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 128), nn.ReLU(), nn.Linear(128, 3))


def convolutional():
    blocks = block(3, 32) + block(32, 64) + block(64, 128)
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(512, 3))


print(f"{sum(weights.numel() for weights in convolutional().parameters()):,} trainable")

# %% [markdown]
# A GPU works beside the program that gives it work. To time it, we must wait until it is done;
# `loss.item()` does that, since it needs the number. We take the shortest of up to 30 steps: the
# first ones prepare memory, and other programs can only make a step longer, never shorter.


# %%
def seconds_of_a_step(build, batch, device):
    network = build().to(device)
    optimiser = torch.optim.Adam(network.parameters())
    images = torch.rand(batch, 3, 32, 32, device=device)
    labels = torch.randint(0, 3, (batch,), device=device)
    times = []
    while len(times) < 30 and sum(times) < 4:
        begin = time.perf_counter()
        loss = nn.functional.cross_entropy(network(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss.item()
        times.append(time.perf_counter() - begin)
    return min(times)


devices = ["cpu"]
if torch.cuda.is_available():
    devices.append("cuda")
if torch.backends.mps.is_available():
    devices.append("mps")
batches = [1, 4, 16, 64, 256]
measured = {
    (build.__name__, device): [seconds_of_a_step(build, batch, device) for batch in batches]
    for build in (dense, convolutional)
    for device in devices
}
print(f"{'milliseconds a step, batch of':<32}" + "".join(f"{batch:>8}" for batch in batches))
for (name, device), times in measured.items():
    print(f"{name} on {device}".ljust(32) + "".join(f"{1000 * each:>8.2f}" for each in times))

# %%
# alt: Milliseconds of a step by batch size, both on a logarithmic scale, one line for each network
#   and device. The line of the dense network is nearly flat for small batches; that of the
#   convolutional one rises with the batch from the beginning.
plt.figure(figsize=(7, 3.8))
for ((name, device), times), colour in zip(
    measured.items(),
    ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"),
    strict=False,
):
    plt.plot(batches, [1000 * each for each in times], "o-", color=colour)
    plt.text(batches[-1] * 1.15, 1000 * times[-1], f"{name}, {device}", color=colour, va="center")
plt.xscale("log", base=2)
plt.yscale("log")
plt.xticks(batches, batches)
plt.xlabel("images in a batch")
plt.ylabel("milliseconds a step")
plt.gca().spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# ## What a GPU changes, and what it does not
#
# A step has two parts:
#
# - The *arithmetic*, which grows with the batch and with the network. A GPU has thousands of
#   arithmetic units and does this part much faster.
# - A *fixed part*. PyTorch prepares each operation on the processor, one after the other: about a
#   dozen for each layer, for the answer, the gradient and the change of the weights. With a GPU
#   this part remains, and each operation must also be sent to the GPU.
#
# A batch of one image has next to no arithmetic, so its time is about the fixed part. From it
# follows how much a GPU could bring *at most*, if it did the arithmetic in no time at all:

# %%
for build in (dense, convolutional):
    times = measured[build.__name__, "cpu"]
    for batch, each in zip(batches[2:], times[2:], strict=True):
        most = each / times[0]
        print(f"{build.__name__:<14} batch of {batch:>3}: at most {most:5.1f} times as fast")

# %% [markdown]
# For the dense network, the limit is low at small batches: most of the step is the fixed part,
# and a GPU gives little or nothing. For the convolutional network, the batch of one already holds
# some arithmetic, so its real limit is higher still than what is printed. This network gains from
# a GPU, and larger images and larger networks gain more.
#
# So a GPU helps when a step has much arithmetic: convolutions, large images, large batches. It
# does not help when
#
# - the network is small, like the dense one here, or the batches are small;
# - you ask for one image at a time: `opsin predict` and `opsin serve` answer on the processor;
# - the processor cannot read the images as fast as the GPU could use them. Large photographs have
#   to be decoded and made smaller first, and the GPU waits.
#
# What a GPU does not change is the result: the classifier is the same kind of file, and its
# accuracy is as good. Only the last digits of the weights differ, as sums are added up in another
# order.
#
# ## Measure your machine
#
# `opsin.bench` measures Opsin's own training, with its own settings and precision, on every
# device that it finds; see [How fast is this machine?](../how-to/training.md#measure-how-fast-a-machine-is)

# %%
bench = opsin.bench()
machine = bench.machine
print(f"{machine.cpu} · {machine.threads} threads · {machine.gpu or 'no GPU'}")
for rate in bench.rates:
    said = f"{rate.work:<10} {rate.name:<7} {rate.how:<13} {rate.size:<6} {rate.device:<5}"
    print(said, f"{rate.images_per_second:>7,.0f} images a second")

# %% [markdown]
# Read it like this: if an epoch of your images takes seconds, train on the processor. If it takes
# many minutes, a faster device shortens it, as long as the images are read quickly enough. Some
# figures of other machines, and what Opsin does to be quick on a processor, are in
# [Performance](../understand/performance.md).
