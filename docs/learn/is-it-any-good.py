# %% [markdown]
# # Is it any good?
# "85% right" says little by itself. How many images was it tested on? Were they really new to
# it? Were their labels right? In this tutorial you make a collection with faults that you know,
# and then look for them as if you did not. In the end you count what was found, and what was
# not. It takes about two minutes.
#
# [Install Opsin](../how-to/install.md) with `[train]` first.

# %%
import csv
import textwrap

import matplotlib.pyplot as plt
import numpy as np

import opsin

BLUE, RED = "#2166ac", "#b2182b"
clothes = opsin.load("fashion-mnist")
random = np.random.default_rng(0)

# %% [markdown]
# ## Plant the faults
# The first fault is **a class that is too small**. Of 3,000 images to learn from and 800 to
# test with, only 12 and 4 bags are kept.

# %%
BAG = 8


def some(rows, count, bags):
    """Draw images with their labels; keep only a few bags."""
    rows = random.permutation(rows)[:count]
    too_many = np.flatnonzero(clothes.labels[rows] == BAG)[bags:]
    rows = np.delete(rows, too_many)
    return clothes.images[rows].copy(), clothes.labels[rows].copy()


images, labels = some(clothes.split.train, 3000, bags=12)
test_images, test_labels = some(clothes.split.test, 800, bags=4)
print(len(labels), "training images,", len(test_labels), "test images")

# %% [markdown]
# Three more faults go into images that are not bags:
#
# - **Wrong labels.** One training image in twenty gets the label of another class.
# - **Copies in both parts.** Some training images are in the test set as well, a little darker.
#   In real collections this happens where someone took several photographs of one thing.
# - **Strange images.** A few are nearly black, as if the lens cap had been on.

# %%
order = random.permutation(np.flatnonzero(labels != BAG))
ends = (np.array([0.055, 0.13, 0.134]) * len(order)).astype(int)
wrong, copied, black, _ = np.split(order, ends)

truth = labels.copy()
others = np.setdiff1d(range(10), BAG)
for row in wrong:
    labels[row] = random.choice(others[others != truth[row]])

darker = (images[copied] * 0.9).astype(np.uint8)
test_images = np.concatenate([test_images, darker])
test_labels = np.concatenate([test_labels, truth[copied]])

images[black] = random.integers(0, 6, images[black].shape)

names = {"classes": clothes.classes}
test = {"test_images": test_images, "test_labels": test_labels}
np.savez("clothes.npz", images=images, labels=labels, **test, **names)
print(len(wrong), "wrong labels,", len(copied), "copies,", len(black), "black")

# %% [markdown]
# Now forget all this. Someone sends you `clothes.npz` and asks for a classifier.
#
# ## Look before you train
# The audit looks at the images before anything is trained.

# %%
data = opsin.load("clothes.npz")
found = opsin.audit(data)
for finding in found.findings:
    print(f"{finding.count:4}  {finding.title}")

# %% [markdown]
# The small class, the black images and the copies are there. For each finding, Opsin says what
# it does about it by itself, and what only you can decide (`finding.opsin`, `finding.yours`).
# It removes nothing. Look at the cases: for pairs under different labels, at least one label is
# probably wrong.

# %%
# alt: Five test images, and under each the training image that is nearly the same.
leaks = next(f for f in found.findings if f.kind == "test-near-duplicates")
figure, axes = plt.subplots(2, 5, figsize=(7, 3), layout="constrained")
for column, case in zip(axes.T, leaks.cases[:5]):
    in_training, in_test = case.rows
    column[0].imshow(data.images[in_test], cmap="gray", vmin=0, vmax=255)
    column[0].set_title("test", fontsize=9)
    column[1].imshow(data.images[in_training], cmap="gray", vmin=0, vmax=255)
    column[1].set_title("training", fontsize=9)
for each in axes.flat:
    each.axis("off")
plt.show()

# %% [markdown]
# You know the truth, so count. Test images come after the others in `data`, and the planted
# copies after the real ones.

# %%
leaked = leaks.rows[leaks.rows >= len(labels)]
planted = leaked >= len(data) - len(copied)
print(planted.sum(), "of", len(copied), "planted copies found")
print((~planted).sum(), "further test images look like a training image")

# %% [markdown]
# The others were not planted: Fashion-MNIST itself has clothes that hardly differ.
#
# In a terminal the same is one command, and it writes a page with all cases side by side:
# ```sh
# opsin data photos --audit --out look
# ```
#
# ## A number has an interval
# Train three kinds of classifier on the collection as it is.

# %%
network = opsin.train("clothes.npz", model="mlp", epochs=15, quiet=True)
forest = opsin.train("clothes.npz", model="forest", quiet=True)
knn = opsin.train("clothes.npz", model="knn", quiet=True)

for run in network, forest, knn:
    all_of_them, new = run.figures, run.figures.without_leaks
    print(
        f"{run.recipe.model.name:7}{all_of_them.accuracy:.3f}"
        f" ({all_of_them.low:.3f} to {all_of_them.high:.3f})"
        f"   without the copies {new.accuracy:.3f}"
    )

# %% [markdown]
# The two numbers in brackets are the **95% interval**. With other test images of the same kind,
# the accuracy would be a little different; in 19 of 20 cases the interval holds the true one.
# More test images make it narrower: for half the width you need four times as many.
#
# The last column leaves out the test images that have a copy among the others. A classifier
# remembers what it has seen, so copies are easy, and **the number with them is too good**. How
# much too good depends on how well it remembers.

# %%
# alt: For each classifier two accuracies with their intervals: the one without the
#   copies is lower.
figure, axes = plt.subplots(figsize=(7, 2.4), layout="constrained")
for place, run in enumerate((network, forest, knn)):
    shown = (("with the copies", RED, run.figures), ("without", BLUE, run.figures.without_leaks))
    for step, (name, colour, each) in enumerate(shown):
        y = place + 0.25 * step
        axes.plot([each.low, each.high], [y, y], color=colour)
        axes.plot(each.accuracy, y, "o", color=colour, label=name if place == 0 else None)
axes.set_yticks([0.125, 1.125, 2.125], ["mlp", "forest", "knn"])
axes.invert_yaxis()
axes.set_xlabel("accuracy on test images, with its 95% interval")
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# **And the small class?** It has four test images. Whatever the share of them that is right,
# the interval shows what it is worth.

# %%
bags = network.figures.classes[BAG]
low, high = bags.recall_interval
print(f"{bags.recall:.0%} of {bags.count} bags right ({low:.0%} to {high:.0%})")

# %% [markdown]
# ## Is one better than the other?
# Intervals that overlap do not answer this. All three saw the same test images, so compare them
# image by image: only those count where one is right and the other is wrong. That is a **paired
# test**. A is the network, B the forest, C the nearest neighbours.

# %%
for pair in opsin.compare(network, forest, knn).pairs:
    print(textwrap.fill(pair.sentence, 88))

# %% [markdown]
# A difference of one point on 900 images is nothing yet. Read more in [Which one is
# better?](../how-to/compare.md)
#
# ## Find the wrong labels
# A network that was trained on a wrong label learns it by heart, so ask one that was not. With
# **folds**, five networks are trained, each on four fifths of the images, and each is asked
# about the rest. Where an answer is sure and contradicts the label, the label is suspected.

# %%
np.savez("training.npz", images=images, labels=labels, **names)
folds = opsin.train_folds("training.npz", folds=5, model="mlp", epochs=15, quiet=True)
with open(folds.labels, newline="", encoding="utf-8") as file:
    suspects = list(csv.DictReader(file))
rows = np.array([int(suspect["name"]) for suspect in suspects])
print(len(rows), "suspects; the first of them:")
print(suspects[0])

# %%
# alt: The ten first suspects, each with its label and the label that is suggested
#   instead; blue where the suspicion is right.
figure, axes = plt.subplots(2, 5, figsize=(7, 3.6), layout="constrained")
for each, suspect, row in zip(axes.flat, suspects, rows):
    each.imshow(images[row], cmap="gray", vmin=0, vmax=255)
    colour = BLUE if row in wrong else RED
    title = f"{suspect['label']}?\n{suspect['suggested']}"
    each.set_title(title, fontsize=8, color=colour)
for each in axes.flat:
    each.axis("off")
plt.show()

# %% [markdown]
# Blue titles are planted errors, red ones false alarms. Count them along the list.

# %%
# alt: Of the first suspects nearly all are planted errors; further down the list there are
#   more and more false alarms.
hits = np.isin(rows, wrong).cumsum()
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
axes.plot(range(1, len(hits) + 1), hits, color=BLUE)
axes.axhline(len(wrong), color="0.6", linewidth=1)
axes.text(0, len(wrong), f"{len(wrong)} planted", va="bottom", color="0.4")
axes.set_xlabel("suspects looked at, the most doubtful first")
axes.set_ylabel("wrong labels found")
axes.set_ylim(0, len(wrong) * 1.15)
axes.spines[["top", "right"]].set_visible(False)
plt.show()
print(hits[-1], "of", len(wrong), "found among", len(rows), "suspects")

# %% [markdown]
# Most are found, and about every second suspect is innocent. So a person has to look: a suspect
# is a question, not an answer. The list says so itself. Opsin has planted errors of its own,
# and counted:

# %%
print(textwrap.fill(folds.summary.doubts.labels.expected.words, 88))

# %% [markdown]
# ## Correct, and train again
# The list is a table that any spreadsheet opens. Change the column `label` where the label is
# wrong, or write `-` there to leave the image out. Here the truth is known, so the script can
# be the careful person.

# %%
with open("labels.csv", "w", newline="", encoding="utf-8") as file:
    table = csv.DictWriter(file, suspects[0])
    table.writeheader()
    for suspect, row in zip(suspects, rows):
        table.writerow({**suspect, "label": clothes.classes[truth[row]]})

fixed = {"labels": "labels.csv"}
corrected = opsin.train("clothes.npz", **fixed, model="mlp", epochs=15, quiet=True)
pair = opsin.compare(network, corrected).pairs[0]
print(textwrap.fill(pair.sentence, 88))

# %% [markdown]
# No clear winner: one wrong label in twenty does little harm to the accuracy of this network.
# Was it in vain? Look at its confidence.
#
# ## Can you trust its confidence?
# Of the answers that are 90% sure, nine in ten should be right. This is **calibration**. Opsin
# fits it to validation images, which are a part of the training images. With wrong labels among
# them, the classifier believes that it errs more often than it does.

# %%
# alt: Confidence against accuracy. With wrong labels the classifier is right more often
#   than it says; after the correction the two agree better.
figure, axes = plt.subplots(figsize=(4.5, 4), layout="constrained")
axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
before_after = (("wrong labels", "#e69f00", network), ("corrected", "#009e73", corrected))
for name, colour, run in before_after:
    bins = [each for each in run.figures.reliability if each.count >= 10]
    confidence = [each.confidence for each in bins]
    accuracy = [each.accuracy for each in bins]
    error = run.figures.calibration_error
    axes.plot(confidence, accuracy, "o-", color=colour, label=f"{name}: error {error:.3f}")
axes.set_xlabel("confidence of the answers")
axes.set_ylabel("share of them that are right")
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# The calibration error is the mean distance from the grey line.
#
# ## None of these
# What does a classifier of clothes say to something that is not clothes? It has only ten
# labels. Opsin adds the answer **"none of these"** for images that look unlike all training
# images. Try it on noise, on handwritten digits, and on clothes that it has never seen.

# %%
digits = [np.kron(scan, np.ones((3, 3, 1))) for scan in opsin.load("digits").images[:200]]
digits = [np.pad(scan.astype(np.uint8), ((2, 2), (2, 2), (0, 0))) for scan in digits]
noise = list(random.integers(0, 256, (200, 28, 28, 1), dtype=np.uint8))
classifier = corrected.classifier()
for name, asked in (
    ("noise", noise),
    ("digits", digits),
    ("clothes", list(clothes.images[clothes.split.test])[-1000:]),
):
    refused = np.mean([answer.rejected for answer in classifier.predict(asked)])
    print(f"{name:8}{refused:6.1%} none of these")

# %% [markdown]
# Noise is always refused, and good images seldom. **Nearly all digits get the name of some
# clothes.** Light strokes on black look like clothes to this small network. "None of these"
# finds what is very strange; it does not find everything that is wrong. If your classifier will
# meet such images, collect some and give them a class of their own.
#
# ## What you found
# | planted | found by | |
# |---|---|---|
# | a class too small | the audit, and the width of its interval | yes |
# | copies in both parts | the audit; the report gives the accuracy without them | nearly all, and more than were planted |
# | wrong labels | folds | most, with one false alarm for each |
# | black images | the audit | all |
# | digits among clothes | "none of these" | hardly any |
#
# `opsin report RUN` writes most of this for a run of your own: intervals, calibration,
# suspected labels, weak groups of images, and strange images. Read on in [Where does it
# fail?](../how-to/failures.md) and [How good is it?](../understand/evaluation.md)
