# %% [markdown]
# # Your own photographs
# You have a folder full of photographs, in no order, and a question about them: which of them
# show what? This tutorial goes from the heap to an answer, with a few dozen photographs that
# you sort by hand, and a network that has seen a million others before. The computer needs
# about two minutes for it. You need more, for the sorting.
#
# [Install Opsin](../how-to/install.md) with `[evaluate]` first; PyTorch is not needed.
#
# The photographs here are of waste: 120 that are sorted into six folders, and a heap of 600
# that are not ([TrashNet](https://github.com/garythung/trashnet), MIT). Take your own instead.
#
# ## Sort a few
# Make a folder for each class, and put about twenty photographs into each:
# ```text
# photos/
#   cardboard/   IMG_0012.jpg  IMG_0047.jpg …
#   glass/       IMG_0003.jpg …
#   …
# heap/
#   IMG_0001.jpg  IMG_0002.jpg …
# ```
# Three rules, which matter more than any setting later:
#
# - **Take them as they come.** If you choose only the good ones, the classifier learns a world
#   without bad ones.
# - **Decide what to do with hard cases**, and do it always in the same way.
# - **Several photographs of one thing are not several things.** Where you can, take different
#   ones.

# %%
import csv
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

import opsin

photos = opsin.load("photos", size=128)
print(len(photos), "photographs:", ", ".join(photos.classes))

# %%
# alt: Four photographs of each class: cardboard, glass, metal, paper, plastic and trash.
figure, axes = plt.subplots(4, len(photos.classes), figsize=(7, 4.8), layout="constrained")
for number, column in enumerate(axes.T):
    rows = [row for row in range(len(photos)) if photos.labels[row] == number]
    for each, row in zip(column, rows):
        each.imshow(photos.images[row])
    column[0].set_title(photos.classes[number], fontsize=9)
for each in axes.flat:
    each.axis("off")
plt.show()

# %% [markdown]
# ## Look for trouble
# The audit takes seconds, and finds what would make all later figures wrong: copies,
# conflicting labels, unreadable files.

# %%
findings = opsin.audit(photos).findings
print(len(findings), "findings")
for finding in findings:
    print(f"{finding.count:3}  {finding.title}: {finding.opsin}")

# %% [markdown]
# ## Build on a pretrained network
# Twenty photographs are too few to learn from scratch what an edge is, or a shiny surface. A
# network that was trained on a million others knows that. Opsin asks it what it sees in yours,
# and learns only which of that tells your classes apart.
#
# Such a network comes with Opsin: EfficientNet-Lite2, which has seen ImageNet's 1.3 million
# photographs. Nothing is fetched, and there is nothing to choose.

# %%
run = opsin.train("photos", quiet=True)

# %% [markdown]
# ## How good is it?
# If you kept a tenth of 120 photographs to test with, 12 would remain, and 12 say nothing. So
# Opsin judges **every photograph once**: it makes five classifiers besides, each without a fifth of
# the photographs, and asks each about the fifth that it has not seen. The classifier that you
# get has learnt from all of them ([why this is honest](../understand/evaluation.md#every-image-tests)).

# %%
figures = run.figures
print(f"{figures.accuracy:.0%} of {figures.images} right")
print(f"95% interval: {figures.low:.0%} to {figures.high:.0%}")
for each in figures.classes:
    print(f"{each.name:12}{each.recall:.0%}")

# %% [markdown]
# Six classes, so guessing would be right in 17%. It is far from perfect, and now you know how
# far, and which class is the worst. That is worth more than a good number that is not true.
#
# ## Ask about the heap
# `classify` takes a folder of any size, and writes a table. You can stop it at any time: start
# it again, and it continues where it was.

# %%
done = opsin.classify(run, "heap", out="answers.csv")
print(done.images, "photographs:", done.answers)

with open("answers.csv", newline="", encoding="utf-8") as file:
    answers = list(csv.DictReader(file))
answers.sort(key=lambda row: float(row["confidence"]))

# %% [markdown]
# The table is sorted by confidence now. Look at both ends of it.

# %%
# alt: Above, the six photographs with the least confident answers; below, the six with
#   the most confident ones.
figure, axes = plt.subplots(2, 6, figsize=(7, 2.9), layout="constrained")
for each, row in zip(axes.flat, answers[:6] + answers[-6:]):
    each.imshow(Image.open(Path("heap", row["image"])))
    each.set_title(f"{row['label']} {float(row['confidence']):.0%}", fontsize=8)
    each.axis("off")
plt.show()

# %% [markdown]
# Instead of a table you can have folders: `sort_into="sorted"` copies each photograph into the
# folder of its answer. In a terminal:
# ```sh
# opsin train photos --model logistic
# opsin predict runs/2026-11-21-photos-logistic photos --sort-into sorted
# opsin undo sorted
# ```
# The last line takes it all back.
#
# ## Sort those that it is least sure of
# You have time for sixty more. Which? Those of which the classifier is least sure: there it has
# most to learn. (This is called active learning.) Look at each, and put it into the right
# folder, below `more/`.
#
# In our heap the names of the files say what they show, so this script can play your part.
# Leave this cell out for your own.


# %%
def shows(row):
    """Return the class that the name of a file says, as in glass12.jpg."""
    return Path(row["image"]).stem.rstrip("0123456789")


unsure, others = answers[:60], answers[60:]
for row in unsure:
    folder = Path("more", shows(row))
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path("heap", row["image"]), folder)

# %% [markdown]
# Then train with both folders. Classes of the same name are one class, and nothing is computed
# twice.

# %%
better = opsin.train(["photos", "more"], quiet=True)

# %% [markdown]
# ## Was it worth it?
# Our heap can tell. Both classifiers answer about the 540 photographs that neither has learnt
# from.

# %%
files = [str(Path("heap", row["image"])) for row in others]
right = {}
for name, each in (("120 photographs", run), ("and 60 more", better)):
    found = each.classifier().predict(files)
    right[name] = [answer.label == shows(row) for answer, row in zip(found, others)]
    print(f"{name:16}{sum(right[name])} of {len(files)} right, {sum(right[name]) / len(files):.0%}")

# %% [markdown]
# These 540 are the easier ones, since the sixty hardest are gone; so compare the two lines with
# each other, and not with the figure above. Repeat this until it is good enough, or until more
# photographs bring nothing more.
#
# ## Use it
# - `opsin predict RUN photo.jpg` answers for one, or for a million.
# - [An interface that responds with a label when you select a picture](an-interface.md) makes a
#   page of it.
# - `opsin studio` does all of this with a mouse: drop photographs, train, correct labels, try.
# - [Is it any good?](is-it-any-good.md) goes further into what can go wrong with your figures.
