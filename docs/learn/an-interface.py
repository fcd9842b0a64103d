# %% [markdown]
# # An interface that responds with a label when you select a picture
# A classifier is only useful once others can ask it. Here are three ways to let them, from no
# line of code to thirty: the studio, a page of your own, and a script. Then pictures come from a
# camera, and the classifier goes to a machine without Opsin. It takes about five minutes.
#
# [Install Opsin](../how-to/install.md) with `[all]` first.
#
# ## A classifier, and a picture to ask about
# Any run will do. This one names clothes, and learns in a few seconds. If you have one from
# another tutorial, use that.

# %%
import opsin

data = opsin.load("fashion-mnist")
run = opsin.train(data, model="mlp", epochs=5, quiet=True)
print(run.path.name, run.accuracy)

# %% [markdown]
# The picture is a test image that the network has not seen, enlarged and put on white paper. So
# it looks like a photograph, and not like the training images, which are light on black.

# %%
# alt: An ankle boot in grey on white.
import matplotlib.pyplot as plt
from PIL import Image

row = data.split.test[0]
picture = Image.fromarray(255 - data.images[row, :, :, 0]).resize((560, 560))
picture.save("boot.png")

plt.figure(figsize=(2, 2))
plt.imshow(picture, cmap="gray", vmin=0, vmax=255)
plt.axis("off")
plt.show()

# %% [markdown]
# ## The studio: no code
# ```sh
# opsin studio
# ```
# Open *Try* of your project, and drop, paste or photograph a picture. You get the label and how
# sure it is; *Where does it look?* adds a heat map.
#
# ![The studio's page Try: a photograph of glass, its answer, and the bars of the three classes](../images/studio-try.webp)
#
# This is for you and people who sit at your machine. [Share the
# studio](../how-to/share-the-studio.md) says who may use it, and how to let others in.
#
# ## A page of your own: thirty lines
# `opsin serve` answers other programs, and web pages are programs too. This is a whole page.
# Save it as `select-a-picture.html`, or take <a href="select-a-picture.html" download>the
# file</a>:
# ```html
# <!doctype html>
# <html lang="en">
# <meta charset="utf-8">
# <meta name="viewport" content="width=device-width">
# <link rel="icon" href="/page/icon.svg">
# <title>What is this?</title>
# <style>
#   body { font: 20px system-ui; max-width: 24em; margin: 2em auto; padding: 0 1em }
#   img { display: block; max-width: 100%; margin: 1em 0 }
# </style>
# <h1>What is this?</h1>
# <p><input type="file" accept="image/*" aria-label="A picture">
# <img alt="">
# <p id="label" aria-live="polite">Select a picture.</p>
# <script>
#   const label = document.getElementById("label");
#   document.querySelector("input").addEventListener("change", async event => {
#     const picture = event.target.files[0];
#     if (!picture) return;
#     document.querySelector("img").src = URL.createObjectURL(picture);
#     const bytes = new Blob([picture], { type: "application/octet-stream" });
#     try {
#       const reply = await fetch("/predict", { method: "POST", body: bytes });
#       const said = await reply.json();
#       if (!reply.ok) throw new Error(`${said.error.message}. ${said.error.advice}`);
#       const { answer, confidence, rejected } = said.predictions[0];
#       label.textContent = rejected ? answer : `${answer}, ${Math.round(100 * confidence)}% sure`;
#     } catch (error) { label.textContent = `No answer: ${error.message}`; }
#   });
# </script>
# ```
# Three things happen when someone selects a picture. The page shows it. It sends the file, as
# it is, to `/predict`. It reads the answer, and writes the label. That is all: sizes, colours
# and backgrounds are the server's work.
#
# Start the server, with your page in place of Opsin's own:
# ```sh
# opsin serve runs/2026-11-21-fashion-mnist-mlp --page select-a-picture.html
# ```
# Then open <http://127.0.0.1:8000/> and select `boot.png`.
#
# ![The page: a grey boot on white, and below it its label and how sure the answer is](../images/learn/an-interface-page.png)
#
# Change the page, and load it again: the server reads the file each time.
#
# **Why does the server have to show the page?** Try to open the file by a double click: the
# browser says that it got no answer. Any web page that you visit could send pictures to a
# server on your machine, so `opsin serve` answers no page but the one that it shows itself.
# Scripts and styles must be in the page, in `<script>` and `<style>`; nothing is loaded from
# elsewhere. If your page belongs to a larger site, let that site's server ask Opsin: [Serving a
# classifier](../how-to/serving.md) has the addresses for programs.
#
# ## A plain script
# No server, no browser: a script that prints the label of each file that you name. If you name
# none, it opens a window to choose one.

# %%
from pathlib import Path

SCRIPT = """\
import sys

import opsin

pictures = sys.argv[2:]
if not pictures:
    from tkinter.filedialog import askopenfilename

    pictures = [askopenfilename(title="Select a picture")]
classifier = opsin.Classifier(sys.argv[1])
for answer in classifier.predict(pictures):
    print(f"{answer.name}: {answer.answer}, {answer.confidence:.0%} sure")
    print(*answer.notes, sep="\\n")
"""
written = Path("label_pictures.py").write_text(SCRIPT)

# %% [markdown]
# Run it in a terminal: `python label_pictures.py runs/2026-11-21-fashion-mnist-mlp boot.png`.
# Or from here:

# %%
import subprocess
import sys

command = [sys.executable, "label_pictures.py", str(run.path), "boot.png"]
print(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

# %% [markdown]
# The note says what happened to the picture: training images are light on black, and this one
# is not. The page and the studio do the same, since all three use the same file.
#
# For thousands of pictures there is a command already, `opsin predict`; see
# [Predicting](../how-to/predict.md).
#
# ## A picture from a camera
# - **In the studio**, *Use the camera* on the page Try. The browser asks whether it may.
# - **On a phone**, your page needs no change: for `<input type="file" accept="image/*">` phones
#   offer the camera beside the photographs. With `capture="environment"` in the same tag, the
#   camera opens at once.
#
# A phone is another machine, and `opsin serve` answers only your own until you say otherwise.
# Make a token, and listen on the network that you and the phone share:
# ```sh
# opsin serve runs/2026-11-21-fashion-mnist-mlp --page select-a-picture.html --host 0.0.0.0 --token-file token.txt
# ```
# Open `http://` with your machine's address and `:8000` on the phone. It asks for a name, which
# may be anything, and for a password, which is the token in `token.txt`. Do this at home only:
# without HTTPS, others in the same network could read the token.
#
# (A live picture in a page of your own is more work: browsers give the camera only to pages
# with HTTPS, or to those of the same machine.)
#
# ## To a machine without Opsin
# A bundle is a `.zip` with the classifier and two small clients, one in Python and one for
# Node.

# %%
shipped = opsin.export_model(run, "bundle")
print(shipped.verdict)

# %%
import zipfile

with zipfile.ZipFile(shipped.path) as bundle:
    print(*sorted(bundle.namelist()), sep="\n")
    bundle.extractall("bundle")

# %% [markdown]
# With [Node](https://nodejs.org) on that machine, and no Python:
# ```text
# $ cd bundle
# $ npm install --ignore-scripts
# $ node predict.mjs samples/9-ankle-boot.png
# samples/9-ankle-boot.png	Ankle boot	99.9%
# ```
# `--check` compares the answers to all samples with those that Opsin gave. Mind one difference,
# which the bundle's README names: its clients leave backgrounds as they are. For our boot on
# white paper, `node predict.mjs ../boot.png` says "Trouser". The studio and `opsin serve` invert
# such backgrounds; read more in [Exporting](../how-to/export.md).
#
# ## What you have seen
# | | needs | for |
# |---|---|---|
# | the studio | a browser | yourself, and looking closer |
# | `opsin serve --page` | an HTML file | others, with your own words and looks |
# | a script | Python | files on a disk |
# | a bundle | Python or Node, no Opsin | other programs |
