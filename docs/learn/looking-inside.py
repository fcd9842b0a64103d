# %% [markdown]
# # Looking inside
# NVIDIA's DIGITS (2015 to 2019) taught many people what a network does: a page for the data, a
# page for the training, and for one image what each layer made of it. This tutorial shows the
# same with a network of your own, and then four things that DIGITS could not show. The most
# important: **does the heat map mean anything?** It takes about five minutes.
#
# [Install Opsin](../how-to/install.md) with `[train]` first. Most of this is in the studio as well (`opsin
# studio`), and two of the pictures are from there.

# %%
import matplotlib.pyplot as plt
import numpy as np

import opsin

BLUE, RED = "#2166ac", "#b2182b"

# %% [markdown]
# ## The data
# Four classes are enough to see how it works, and train quickly.

# %%
names = ["Sandal", "Sneaker", "Bag", "Ankle boot"]
data = opsin.load("fashion-mnist", classes=names)
print(data.summary())
for name, counts in data.counts().items():
    print(f"{name:12}{counts}")

# %% [markdown]
# Look at the images before anything else, always. Here is one row for each class. The last
# image in it is the mean of all its training images: it shows how much the images of a class
# have in common.

# %%
# alt: Four rows of images, one for each class. The mean sneaker is sharp, the mean bag
#   is a grey square.
train = np.asarray(data.images[data.split.train])[..., 0]
labels = data.labels[data.split.train]
figure, axes = plt.subplots(4, 8, figsize=(7, 3.7), layout="constrained")
for number, row in enumerate(axes):
    of_class = train[labels == number]
    for each, image in zip(row, [*of_class[:7], of_class.mean(axis=0)]):
        each.imshow(image, cmap="gray", vmin=0, vmax=255)
        each.set(xticks=[], yticks=[])
    row[0].set_ylabel(data.classes[number], fontsize=8)
axes[0, -1].set_title("mean", fontsize=9)
plt.show()

# %% [markdown]
# Mean sneakers look like sneakers, so even a simple network can recognise them. The mean bag is
# a grey square: bags have many forms.
#
# The studio's page *Photos* has all images by class, and says what is wrong with them. In a
# terminal, `opsin data fashion-mnist --audit` writes such a page.
#
# ![The studio's page Photos, with photographs of waste: a column for each class](../images/studio-photos.webp)
#
# ## The training
# A convolutional network learns for three epochs, which means that it sees each training image
# three times.

# %%
run = opsin.train(data, model="cnn", epochs=3, quiet=True)
print(f"{run.accuracy:.4f} of the test images right")

# %%
# alt: Training and validation loss fall from epoch to epoch, and validation accuracy
#   rises.
history = run.history.frame()
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 2.6), layout="constrained")
left.plot(history["train_loss"], "o-", color="#0072b2", label="training")
left.plot(history["val_loss"], "o-", color="#e69f00", label="validation")
left.set(xlabel="epoch", ylabel="loss (nats)", xticks=history.index)
left.legend(frameon=False)
right.plot(history["val_accuracy"], "o-", color="#e69f00")
right.set(xlabel="epoch", ylabel="validation accuracy", xticks=history.index)
for each in (left, right):
    each.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# The loss on validation images is the lower one here: while it learns, the network works with a
# random half of its units (dropout), and when it answers, with all of them. The studio shows
# these curves on *Results*, under *How was it trained?*
#
# ## An image through every layer
# Everything from here on comes from the run's `classifier.onnx`, the file that answers.
# `Inspection` opens it.

# %%
look = opsin.Inspection(run)
views = look.layers("test/0")
for view in views:
    shape = " × ".join(map(str, view.values.shape))
    print(f"{view.name:15}{shape:>13}   mean {view.mean:6.2f}   zeros {view.sparsity:4.0%}")

# %% [markdown]
# Read it from the top. An image of 28 × 28 pixels goes in. The first layer makes 32 **maps** of
# it: 32 small filters pass over the image, and each writes down where it found what it looks
# for. Each pooling halves the sides, and the number of maps grows: the network gives up
# **where** for **what**. At the end four numbers are left, one for each class.
#
# ReLU turns everything below 0 into 0. So behind it half of the values are zero, or more: each
# unit is active only where it finds what it looks for.

# %%
# alt: The image, and the eight strongest maps of four layers. The first maps look like
#   the image with its edges; the last ones are a few squares.
shown = [view for view in views if view.values.ndim == 3 and "relu" in view.name]
shown = [shown[place] for place in np.linspace(0, len(shown) - 1, 4).astype(int)]
figure, axes = plt.subplots(4, 9, figsize=(7, 3.6), layout="constrained")
for view, row in zip(shown, axes):
    strongest = view.order[:8]
    top = view.values[strongest].max()
    for each, unit in zip(row[1:], strongest):
        each.imshow(view.values[unit], cmap="viridis", vmin=0, vmax=top)
        each.set_title(unit, fontsize=7, pad=2)
    row[0].text(1, 0.5, view.name, ha="right", va="center", fontsize=8)
for each in axes.flat:
    each.axis("off")
plt.show()

# %% [markdown]
# The number above a map is its unit. The first maps still look like the image: edges, dark
# sides, light sides. The last ones are a few squares that no one can read by eye; further down
# you ask what they respond to.
#
# The studio's page *Look inside* has all maps of all layers; a click shows one large.
#
# ![The studio's page Look inside: a photograph of glass, the blocks of a network, and the maps of its first block](../images/studio-inside.webp)
#
# ## The weights
# What the network has learnt is in its weights. Those of the first layer can be looked at: each
# filter is 3 × 3 numbers.

# %%
# alt: Left, 32 filters of 3 by 3 weights, many of them dark on one side and light on the
#   other. Right, the weights of three layers, spread around 0.
weights = {view.name: view for view in look.weights() if view.images is not None}
first = next(view for view in weights.values() if view.images.kind == "filters")
figure = plt.figure(figsize=(7, 2.6), layout="constrained")
left, right = figure.subfigures(1, 2)
for each, filter_ in zip(left.subplots(4, 8).flat, first.images.weights):
    limit = np.abs(filter_).max()
    each.imshow(filter_[..., 0], cmap="PuOr", vmin=-limit, vmax=limit)
    each.axis("off")
axes = right.subplots()
for view in list(weights.values())[:3]:
    numbers = view.values[0]
    axes.stairs(numbers.counts / numbers.counts.max(), numbers.edges, label=view.name)
axes.set(xlabel="weight", ylabel="how many (largest = 1)")
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False, fontsize=7)
plt.show()

# %% [markdown]
# Orange is below 0, white is 0, purple is above. A filter that is orange on one side and purple
# on the other finds an edge.
#
# **Statistics** tell whether a layer works at all. A unit that is never active is *dead*: it
# costs time and contributes nothing. Opsin looks for such units over 1,000 training images.

# %%
for name, units in look.activity().layers.items():
    if units.dead.any():
        print(f"{name}: {units.dead.sum()} of {len(units.dead)} units are dead")

# %% [markdown]
# ## What DIGITS could not show
# ### What is a unit for?
# Ask which units fire for bags and for little else, and look at the training images that excite
# the first of them most.

# %%
# alt: Nine training images that excite one unit most, all of them bags.
gallery = look.units(shown[-1].name, limit=5000)
match = gallery.search(data.classes[2])[0]
print(f"unit {match.unit}: {match.mean:.2f} for bags, {match.rest:.2f} for all others")

figure, axes = plt.subplots(1, 9, figsize=(7, 1.1), layout="constrained")
for each, best in zip(axes, gallery.unit(match.unit).best):
    each.imshow(best.pixels[..., 0], cmap="gray", vmin=0, vmax=255)
for each in axes:
    each.axis("off")
plt.show()

# %% [markdown]
# ### Is a unit worth anything?
# To fire for bags is one thing; to be needed for them is another. Set units to 0, one at a time,
# and let the rest of the network answer all validation images again.

# %%
found = look.ablation(shown[-1].name, units=[match.unit, 0, 1, 2, 3])
for effect in found.effects:
    print(
        f"without unit {effect.unit:3}: {effect.lost} images are now wrong, "
        f"{effect.gained} now right"
    )

# %% [markdown]
# Hardly anything changes. Other units make up for it: what a network knows is spread over many
# units.
#
# ### Why this answer, and does the heat map mean anything?
# Heat maps mark the places that speak for an answer. There are many methods, they always look
# convincing, and **some maps mean nothing**. So Opsin checks each one, in two ways:
#
# 1. Hide the marked places first. If the map is right, the answer must become unsure faster
#    than by chance.
# 2. Replace the weights by random ones. If the map stays the same, it shows the edges of the
#    image, and not what the network learnt.

# %%
# alt: An image with a heat map by each method. The title is blue where the map passes
#   both checks, and red where it is not to be trusted.
decision = look.explain("test/0")
figure, axes = plt.subplots(1, 5, figsize=(7, 1.9), layout="constrained")
axes[0].imshow(decision.pixels[..., 0], cmap="gray", vmin=0, vmax=255)
axes[0].set_title(decision.answer, fontsize=8)
for each, heat in zip(axes[1:], decision.maps):
    verdict = heat.verdict
    trusted = verdict.deletion and verdict.insertion and verdict.sanity is not False
    each.imshow(heat.heat, cmap="viridis")
    each.set_title(heat.method.replace("-", "\n", 1), fontsize=8, color=BLUE if trusted else RED)
    print(f"{heat.method:22}{verdict.words}")
for each in axes:
    each.axis("off")
plt.show()

# %% [markdown]
# Blue titles passed, red ones did not. One image is an anecdote; take a few more.

# %%
passed = {heat.method: 0 for heat in decision.maps}
for number in range(6):
    for heat in look.explain(f"test/{number}").maps:
        passed[heat.method] += heat.verdict.words.startswith("passes both")
for method, count in passed.items():
    print(f"{method:22}{count} of 6 maps pass")

# %% [markdown]
# No method is right everywhere. A map that passes is a hint; two that pass and agree are more;
# one that fails is only a picture. [Why this answer?](../how-to/heat-maps.md) has the methods,
# the checks, and how often maps pass by chance.
#
# ### Which training images does it resemble?
# These are the training images that the last layer finds most similar.

# %%
# alt: The image, and the eight training images most like it.
near = look.nearest("test/0")
figure, axes = plt.subplots(1, 9, figsize=(7, 1.2), layout="constrained")
axes[0].imshow(decision.pixels[..., 0], cmap="gray", vmin=0, vmax=255)
for each, neighbour in zip(axes[1:], near):
    each.imshow(neighbour.pixels[..., 0], cmap="gray", vmin=0, vmax=255)
    each.set_title(neighbour.class_name, fontsize=6)
for each in axes:
    each.axis("off")
plt.show()

# %% [markdown]
# ## The same in a terminal
# ```sh
# opsin train fashion-mnist --epochs 3
# opsin inspect runs/2026-11-21-fashion-mnist-resnet                      # layers and weights
# opsin inspect runs/2026-11-21-fashion-mnist-resnet boot.jpg             # through every layer
# opsin inspect runs/2026-11-21-fashion-mnist-resnet boot.jpg --explain   # heat maps, checked
# opsin inspect runs/2026-11-21-fashion-mnist-resnet --layer stage2.gelu --class Bag
# ```
# Each writes a page. [Looking inside](../how-to/inspect.md) has everything else that you can
# ask.
