# %% [markdown]
# # A convolutional network: airplanes, automobiles and birds
#
# The network of the [first tutorial](basic-classification.md) sees an image as a row of numbers:
# it does not know which pixels are neighbours. A *convolutional* network does. In this tutorial
# you train one with six convolutions on three classes of CIFAR-10, small photographs in colour.
# You also learn when to stop a training, and which images may decide it.
#
# It follows an exercise of many courses, which prints a test accuracy of 0.883. There are three
# trainings on this page. Without a GPU, each of them takes two to eight minutes.

# %% [markdown]
# ## Load three classes
#
# CIFAR-10 has ten classes. `classes` keeps three of them, in this order.

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import opsin

data = opsin.load("cifar10", classes=["airplane", "automobile", "bird"])
print(data.summary())
print(data.images.shape, data.images.dtype)

# %% [markdown]
# Each image has 32×32 pixels, and each pixel three numbers: red, green and blue.

# %%
# alt: Twenty-four training images in three rows: airplanes, automobiles and birds.
train = data.split.train
rows = [row for label in range(3) for row in train[data.labels[train] == label][:8]]
_, grid = plt.subplots(3, 8, figsize=(9, 3.8))
for axes, row in zip(grid.flat, rows, strict=True):
    axes.imshow(data.images[row])
    axes.set(xticks=[], yticks=[])
for axes, name in zip(grid[:, 0], data.classes, strict=True):
    axes.set_ylabel(name)
plt.tight_layout()
plt.show()

# %% [markdown]
# ## The network
#
# A convolution slides a small window over the image, here of 3×3 pixels. At each place it
# multiplies the numbers in the window by the weights of a *filter* and adds them up. The same
# filter is used at each place, so a shape is found wherever it is. The network has three blocks,
# with 32, 64 and 128 filters. In each block:
#
# - *Conv 3×3*, then *ReLU*, which replaces numbers below 0 by 0;
# - *BatchNorm*, which keeps the numbers at a scale at which the next layer learns well;
# - *Conv 3×3* and *ReLU* again;
# - *MaxPool 2*, which keeps the largest of each 2×2 numbers, so that height and width become
#   half;
# - *Dropout*, which sets half of the numbers to 0 at random, in training only, so that the
#   network does not rely on any single one of them.
#
# At the end, a *Dense* layer gives one number for each class. In Opsin this network is
# `model="cnn"`.

# %%
settings = {
    "model": "cnn",
    "batch_size": 128,
    "learning_rate": 1e-3,
    "schedule": "constant",
    "flip": False,
}
plan = opsin.plan(data, epochs=10, quiet=True, **settings)
for layer in plan.layers:
    print(f"{layer.name:<17}{layer.kind:<17}{layer.shape!s:<14}{layer.parameters:>8,}")
print(f"{plan.parameters:,} parameters")

# %% [markdown]
# Count some of them yourself. A filter of the first convolution has 3×3 weights for each of the
# three colours and a bias, and there are 32 filters. BatchNorm has four numbers for each filter,
# of which training changes two: the other two are a running mean and variance.

# %%
print("First convolution:", (3 * 3 * 3 + 1) * 32)
print("First BatchNorm:  ", 4 * 32)
print("Changed by training:", f"{sum(layer.trainable for layer in plan.layers):,}")

# %% [markdown]
# ## Train it, and stop in time
#
# How many epochs are enough? With too few, the network has not learnt all it could. With too
# many, it learns the training images by heart. *Early stopping* lets the validation images
# decide: with `patience=3`, the training stops after three epochs without a better validation
# accuracy. Opsin keeps the weights of the best epoch.

# %%
run = opsin.train(data, epochs=10, patience=3, **settings)

# %%
# alt: Two charts side by side. Loss by epoch and accuracy by epoch, each with one line for the
#   training images and one for the validation images.
history = run.history.frame()
_, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
for axes, what in ((left, "loss"), (right, "accuracy")):
    axes.plot(history.index, history[f"train_{what}"], color="#0072b2", label="training")
    axes.plot(history.index, history[f"val_{what}"], color="#e69f00", label="validation")
    axes.set(xlabel="epoch", ylabel=what)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
plt.tight_layout()
plt.show()

# %% [markdown]
# At first the validation curves are much worse than the training curves. In training, BatchNorm
# uses the mean of each batch; in validation, a running mean, which follows slowly and takes some
# epochs to arrive. At the end they go up and down: the rate stays the same, so every step moves
# the weights as far as the first one did. Here the best epoch is one of the last, so the ten
# epochs were over before early stopping had to do anything. With `epochs=50` it decides by itself
# when to stop.

# %%
figures = run.figures
print(f"{figures.accuracy:.4f} ({figures.low:.4f} to {figures.high:.4f})")

# %% [markdown]
# ## Which images may decide when to stop?
#
# The exercise gives the *test* images to early stopping, and then prints the test accuracy of the
# best epoch. That figure is too good, and here is why. Suppose that ten networks all get 87 of
# 100 images right. On 3,000 test images each of them gets a slightly different figure, by chance.
# The best of the ten figures does not come from a better network, but from the luckiest one:

# %%
random = np.random.default_rng(0)
found = random.binomial(3000, 0.87, size=(10_000, 10)) / 3000
print(
    f"Mean of the ten: {found.mean():.4f}, mean of the best of ten: {found.max(axis=1).mean():.4f}"
)

# %% [markdown]
# Let us measure it. With the same seed and the same training images, Opsin makes the same
# weights, bit for bit. So we train once more and let the test images take the place of the
# validation images. The history then has the test accuracy after each epoch of the training
# above.
#
# Never do this with a figure that you want to report. Here we do it once, to see what it is
# worth.

# %%
split = data.split
swapped = replace(data, split=replace(split, val=split.test, test=split.val))
peeked = opsin.train(swapped, name="peeked", epochs=10, patience=10, quiet=True, **settings)
later = peeked.history.frame().loc[history.index]
print("The same training:", (later["train_loss"] == history["train_loss"]).all())

# %%
validated, tested = history["val_accuracy"], later["val_accuracy"]
honest, lucky = validated.idxmax(), tested.idxmax()
print(f"Chosen by the validation images: epoch {honest}, test accuracy {tested[honest]:.4f}")
print(f"Chosen by the test images:       epoch {lucky}, test accuracy {tested[lucky]:.4f}")
print(f"Difference: {tested[lucky] - tested[honest]:.4f}")

# %%
# alt: Validation and test accuracy by epoch. A circle on the test curve marks the epoch that the
#   validation images choose, another one the epoch that the test images choose.
plt.figure(figsize=(7, 3.4))
plt.plot(history.index, validated, color="#e69f00", label="validation")
plt.plot(history.index, tested, color="#009e73", label="test")
plt.plot(honest, tested[honest], "o", color="#e69f00", label="chosen by validation")
plt.plot(lucky, tested[lucky], "o", color="#009e73", mfc="none", ms=12, label="chosen by test")
plt.xlabel("epoch")
plt.ylabel("accuracy")
plt.gca().spines[["top", "right"]].set_visible(False)
plt.legend(frameon=False)
plt.show()

# %% [markdown]
# The test images always choose the epoch where their own accuracy is the largest, so the
# difference is never below 0. In this training it is 0: both choose the same epoch. A dense
# network on the same images, which trains in a minute, was trained with ten seeds: there the
# difference was 0.7 points on average, and up to 1.4 ([Figures of the tutorials](figures.md)).
# From a printed figure alone, no one can tell how much of it is luck. So let the validation
# images choose.
#
# ## Opsin's own settings
#
# Without `settings`, Opsin trains the same network in smaller batches, mirrors half of the images
# left to right, and lets the rate rise and then fall to almost zero, so that no early stopping is
# needed. These settings were chosen on validation images ([how](../understand/performance.md)).

# %%
better = opsin.train(data, model="cnn", epochs=10)

# %%
print(opsin.compare(run, better).pairs[0].sentence)

# %% [markdown]
# A is the first training, B this one. The difference is far larger than chance could make it.
# But do not conclude too much from it: with another seed, either of them would come out a point
# higher or lower.

# %% [markdown]
# ## Look at the answers
#
# Fifteen test images, right answers in blue, wrong answers in red with the label in brackets.

# %%
# alt: Fifteen test images, each with the answer and its probability below: blue if it is right, red
#   with the label in brackets if it is wrong.
BLUE, RED = "#2166ac", "#b2182b"


def draw(rows, answers):
    _, grid = plt.subplots(3, 5, figsize=(8, 5.8))
    for axes, row, probabilities in zip(grid.flat, rows, answers, strict=False):
        answer, label = probabilities.argmax(), data.labels[row]
        text = f"{data.classes[answer]} {probabilities.max():.0%}"
        if answer != label:
            text += f"\n({data.classes[label]})"
        axes.imshow(data.images[row])
        axes.set_xlabel(text, color=BLUE if answer == label else RED)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    plt.tight_layout()
    plt.show()


test = data.split.test
answers = better.classifier().probabilities(data.images[test])
spread = np.linspace(0, len(test) - 1, 15).astype(int)
draw(test[spread], answers[spread])

# %% [markdown]
# More can be learnt from the mistakes. These are the wrong answers of which the network was most
# sure.

# %%
# alt: The fifteen wrong answers with the highest probabilities, each with the label in brackets.
wrong = np.flatnonzero(answers.argmax(axis=1) != data.labels[test])
surest = wrong[np.argsort(-answers[wrong].max(axis=1))[:15]]
draw(test[surest], answers[surest])

# %% [markdown]
# Which classes does it confuse? Rows are labels, columns are answers.

# %%
counts = np.zeros((3, 3), int)
np.add.at(counts, (data.labels[test], answers.argmax(axis=1)), 1)
print(pd.DataFrame(counts, index=data.classes, columns=data.classes))

# %% [markdown]
# ## Go on
#
# - [The graph of a network, and when a GPU helps](graph-and-devices.md) shows what each of these
#   layers costs.
# - In one command: `opsin train cifar10 --classes airplane,automobile,bird --model cnn`.
# - A network of your own layers is one file: [adding to Opsin](../how-to/extend.md).
