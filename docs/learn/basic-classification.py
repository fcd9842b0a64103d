# %% [markdown]
# # Basic classification: clothes
#
# In this tutorial you train a small neural network to recognise clothes, such as shirts, trainers
# and bags. You look at the images, build a network, train it, find out how good it is, and look
# at what it gets wrong. It takes about five minutes, and you need no knowledge of neural
# networks.
#
# It follows [Basic classification](https://www.tensorflow.org/tutorials/keras/classification) of
# TensorFlow, step by step, so that you can read both side by side. At the end it answers a
# question that many readers of that tutorial ask: would the network be better if it trained for
# longer?

# %% [markdown]
# ## Load the images
#
# Fashion-MNIST is a collection of 70,000 photographs of clothes. Opsin knows it by name, and
# fetches it the first time.

# %%
import matplotlib.pyplot as plt
import numpy as np

import opsin

data = opsin.load("fashion-mnist")
print(data.summary())

# %% [markdown]
# The images are in one array, and their labels in another. A label is a number from 0 to 9, which
# stands for a class. The names of the classes are in a list, in the same order.

# %%
print("Images:", data.images.shape, data.images.dtype)
print("Labels:", data.labels.shape, data.labels[:10])
for number, name in enumerate(data.classes):
    print(number, name)

# %% [markdown]
# There are three kinds of images:
#
# - The network learns from the **training images**.
# - The **validation images** show, during the training, how well it does on images that it does
#   not learn from. Opsin cuts them from the training images; in TensorFlow's tutorial there are
#   none.
# - The **test images** are kept for the end. They tell how good the network is. They can only
#   tell this if nothing was chosen with their help, so they are looked at once.

# %%
train, validation, test = data.split.train, data.split.val, data.split.test
print("Training:  ", data.images[train].shape)
print("Validation:", data.images[validation].shape)
print("Test:      ", data.images[test].shape)

# %% [markdown]
# ## Look at the images
#
# An image is a table of 28×28 numbers from 0 (black) to 255 (white). A heat map shows each number
# as a colour.

# %%
# alt: The first training image as a heat map of 28 by 28 squares, with a scale of colours
#   from 0 to 255 beside it.
plt.figure(figsize=(4.6, 3.6))
plt.imshow(data.images[train[0]].squeeze(), cmap="viridis", vmin=0, vmax=255)
plt.colorbar(label="pixel")
plt.title(data.classes[data.labels[train[0]]], loc="left")
plt.show()

# %% [markdown]
# Always look at some of your images before you train. Are they what you expect? Are the labels
# right?

# %%
# alt: Twenty-five training images in five rows, each with the name of its class below it.
plt.figure(figsize=(7, 7.4))
for place, row in enumerate(train[:25]):
    plt.subplot(5, 5, place + 1)
    plt.imshow(data.images[row].squeeze(), cmap="gray")
    plt.xlabel(data.classes[data.labels[row]])
    plt.xticks([])
    plt.yticks([])
plt.tight_layout()
plt.show()

# %% [markdown]
# ## Scale the pixels
#
# A network learns best from small numbers around 0. In TensorFlow's tutorial you divide all
# images by 255 yourself, and you must never forget to do so later. In Opsin this is the first
# layer of the network, called *Normalise*: it subtracts the mean of the training pixels and
# divides by their standard deviation. You always give the network pixels from 0 to 255. This is
# what the layer does:

# %%
pixels = data.images[train] / 255
print(f"Pixels from 0 to 1: mean {pixels.mean():.3f}, deviation {pixels.std():.3f}")
scaled = (pixels - pixels.mean()) / pixels.std()
print(f"Scaled: from {scaled.min():.2f} to {scaled.max():.2f}, mean {abs(scaled.mean()):.3f}")

# %% [markdown]
# ## Build the network
#
# The network has two layers that learn:
#
# - *Flatten* turns the 28×28 pixels into one row of 784 numbers. It learns nothing.
# - A *Dense* layer of 128 units. Each unit multiplies each of the 784 numbers by a weight of its
#   own, adds the results and a bias, and passes the sum on if it is above 0 (*ReLU*).
# - A *Dense* layer of 10 units, one for each class. The largest of its 10 numbers is the answer.
#
# This network is `model="mlp"` in Opsin. `opsin.plan` shows it without training it.

# %%
settings = {"model": "mlp", "batch_size": 32, "learning_rate": 1e-3, "schedule": "constant"}
plan = opsin.plan(data, epochs=10, quiet=True, **settings)
for layer in plan.layers:
    print(f"{layer.name:<9}{layer.kind:<11}{layer.shape!s:<13}{layer.parameters:>8,}")
print(f"{plan.parameters:,} parameters")

# %% [markdown]
# A parameter is a number that the training changes. You can count them yourself: each unit has
# one weight for each of its inputs, and one bias.

# %%
side = 28 * 28
print((side * 128 + 128) + (128 * 10 + 10))

# %% [markdown]
# ## Train it
#
# In training, the network sees 32 images at a time (`batch_size`). For each batch it computes how
# wrong its answers are, the *loss*, and an optimiser (Adam) changes each weight by a small step
# that makes the loss smaller. `rate` is the size of these steps. One pass over all training
# images is an *epoch*. These are the settings of TensorFlow's tutorial. One thing differs: there,
# the network learns from all 60,000 images; here, 5,857 of them are for validation.

# %%
run = opsin.train(data, epochs=10, **settings)

# %% [markdown]
# Read these lines from top to bottom:
#
# - *Audit* says what is strange about the images. Here the same shirt may be in the collection
#   twice, sometimes with two different labels. Opsin shows it, and changes nothing.
# - Each epoch has a line: loss and accuracy (`acc`), first on the training images, then on the
#   validation images. `best` means that no epoch before had a better validation accuracy. Opsin
#   keeps the weights of the last epoch with this mark.
# - *Test* is the accuracy on the test images. More about it below.
# - *Refuses*: for some images the answer is "none of these", since they look unlike all training
#   images.
# - *Confuses*: the classes that are most often confused. The number behind each pair counts the
#   test images.
#
# `run` is the training with all that came out of it. It is also a folder in `runs`, with a report
# that you can open in a browser.
#
# ## Look at the curves
#
# The history has the figures of each epoch.

# %%
# alt: Two charts. Loss by epoch and accuracy by epoch, each with one line for the
#   training images and one for the validation images.
history = run.history.frame()
_, (top, bottom) = plt.subplots(2, 1, figsize=(5.5, 5.5))
for axes, what in ((top, "loss"), (bottom, "accuracy")):
    axes.plot(history.index, history[f"train_{what}"], color="#0072b2", label="training")
    axes.plot(history.index, history[f"val_{what}"], color="#e69f00", label="validation")
    axes.set(xlabel="epoch", ylabel=what)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
plt.tight_layout()
plt.show()

# %% [markdown]
# On the training images the network gets better with every epoch. On the validation images it
# gets better at first, and then hardly any more: from there on the network learns the training
# images by heart. This is called *overfitting*. That is why Opsin keeps the weights of the epoch
# with the best validation accuracy, not those of the last one.
#
# ## How good is it?
#
# The *accuracy* is the share of right answers on the test images.

# %%
figures = run.figures
print(f"Test accuracy {figures.accuracy:.4f}")
print(f"95% interval  {figures.low:.4f} to {figures.high:.4f}")

# %% [markdown]
# TensorFlow's tutorial prints 0.8848, from one training, on all 60,000 images.
#
# The interval is about the 10,000 test images. They are a sample: with 10,000 other photographs
# of clothes, the same network would get a slightly different accuracy, within this interval in 95
# of 100 cases. So read such a figure with two digits, "88 of 100", and be careful with the third.
#
# Opsin's own settings for this network change the rate during the training: it rises, then falls
# to almost zero (`one-cycle`). They were chosen on validation images
# ([how](../understand/performance.md)).

# %%
better = opsin.train(data, model="mlp", epochs=10, quiet=True)
figures = better.figures
print(f"{figures.accuracy:.4f} ({figures.low:.4f} to {figures.high:.4f})")

# %% [markdown]
# Is it really better, or was it luck? Both networks answered the same test images, so we can
# count the images that only one of them got right. If neither were better, about half of these
# would belong to each. This is a *paired test*.

# %%
print(opsin.compare(run, better).pairs[0].sentence)

# %% [markdown]
# ## Look at the answers
#
# The network answers with ten probabilities, one for each class. Together they are 1. The class
# with the largest one is the answer.

# %%
classifier = better.classifier()
answers = classifier.probabilities(data.images[test])
print(answers.shape)
print(np.round(answers[0], 3))

# %%
answer = answers[0].argmax()
print("Answer:", answer, data.classes[answer])
print("Label: ", data.labels[test[0]], data.classes[data.labels[test[0]]])

# %% [markdown]
# Now draw fifteen images with their probabilities. A right answer is blue. A wrong answer is red,
# with the right class in blue beside it.

# %%
# alt: Fifteen test images, each with the bars of its ten probabilities. Below each image is the
#   answer with its probability: blue if it is right, red with the label in brackets if it is wrong.
BLUE, RED = "#2166ac", "#b2182b"


def draw_image(axes, row, probabilities):
    answer, label = probabilities.argmax(), data.labels[row]
    text = f"{data.classes[answer]} {probabilities.max():.0%}"
    if answer != label:
        text += f"\n({data.classes[label]})"
    axes.imshow(data.images[row].squeeze(), cmap="gray")
    axes.set_xlabel(text, color=BLUE if answer == label else RED)
    axes.set(xticks=[], yticks=[])


def draw_bars(axes, row, probabilities):
    colours = ["#8a929c"] * len(probabilities)
    colours[probabilities.argmax()] = RED
    colours[data.labels[row]] = BLUE
    axes.bar(range(len(probabilities)), probabilities, color=colours)
    axes.set(ylim=(0, 1), xticks=range(len(probabilities)), yticks=[])
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right", "left"]].set_visible(False)


_, grid = plt.subplots(5, 6, figsize=(8, 8.6))
for place, axes in enumerate(grid.reshape(15, 2)):
    draw_image(axes[0], test[place], answers[place])
    draw_bars(axes[1], test[place], answers[place])
plt.tight_layout()
plt.show()

# %% [markdown]
# The network is often very sure where it is right. Look for an image where it is sure and wrong.
# Could you tell what it is, at this size?
#
# ## Use it on one image
#
# A network always takes a batch: an array of images. One image is a batch of one, so it needs one
# more axis in front.

# %%
image = data.images[test[1]]
batch = image[None]
print(image.shape, "->", batch.shape)
print(data.classes[classifier.probabilities(batch)[0].argmax()])

# %% [markdown]
# `predict` does this for you. It takes an array, a Pillow image or the name of a file, of any
# size, and returns the answer with its probability.

# %%
prediction = classifier.predict(image)
print(prediction.label, f"{prediction.confidence:.1%}")

# %% [markdown]
# ## Is it better to train for longer?
#
# People who try this tutorial with 5, 10 and 15 epochs write down figures from 0.872 down to
# 0.82, and conclude that one of the three is best. But each of these figures comes from one
# training. A training starts from random weights and sees the images in a random order; with
# another *seed*, that is with other random numbers, the same training gives another figure. So
# let us train three times for each number of epochs. (`patience` is 15 so that no training stops
# early.)

# %%
series = {}
for epochs in (5, 10, 15):
    series[epochs] = opsin.train_repeats(
        data, repeats=3, epochs=epochs, patience=15, quiet=True, **settings
    )
    found = [run.accuracy for run in series[epochs].runs]
    print(f"{epochs:>2} epochs:", "  ".join(f"{accuracy:.4f}" for accuracy in found))

# %%
# alt: The test accuracy of nine trainings, three for each of 5, 10 and 15 epochs, each as a point
#   with its 95% interval. A line marks 0.8848, the figure of TensorFlow's tutorial.
plt.figure(figsize=(7, 3.4))
for place, repeats in enumerate(series.values()):
    for offset, each in enumerate(repeats.runs):
        found = each.figures
        plt.plot([4 * place + offset] * 2, [found.low, found.high], color="#8a929c")
        plt.plot(4 * place + offset, found.accuracy, "o", color="#0072b2")
plt.axhline(0.8848, color="#e69f00", zorder=0)
plt.text(-0.4, 0.885, "TensorFlow's tutorial", color="#9a6700", va="bottom")
plt.xticks((1, 5, 9), [f"{epochs} epochs" for epochs in series])
plt.ylabel("test accuracy")
plt.gca().spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# Each point is a training, and each line its 95% interval. Now compare three trainings that
# differ in their epochs only by paired tests. A has 5 epochs, B 10 and C 15.

# %%
comparison = opsin.compare(*(repeats.runs[0] for repeats in series.values()))
for pair in comparison.pairs:
    print(pair.sentence)
for repeats in series.values():
    print(f"Mean {repeats.accuracy:.4f}, deviation between seeds {repeats.deviation:.4f}")

# %% [markdown]
# What can be said?
#
# - All nine figures are within one point of each other, and their intervals overlap. Another seed
#   changes the figure about as much as other epochs do, and the paired tests show no difference.
#   So these trainings do not tell which number of epochs is best. If you train once with each and
#   pick the largest figure, you draw a conclusion from chance.
# - Some figures are the same in two rows. That is no mistake: with the same seed and a constant
#   rate, a training of 10 epochs begins exactly like one of 5. If no later epoch is better on the
#   validation images, Opsin keeps the same weights.
# - 0.82 is another matter. It is five points below all of these, and neither chance nor 15 epochs
#   can explain that. Something else must be different in such a program, for example pixels that
#   were not scaled. To find out what, change one thing at a time.
# - We have now looked at the test images many times. If you pick the best of these figures, it is
#   too good, because luck is in it. To choose the number of epochs, compare *validation*
#   accuracies, and keep the test images for the end ([more about
#   this](../understand/evaluation.md)).
#
# ## Go on
#
# - [A convolutional network](convolutional-network.md) does better on photographs.
# - The same in one command: `opsin train fashion-mnist --model mlp`. It also writes the report.
# - Your own images: a folder for each class is all it takes ([your images](../how-to/data.md)).
