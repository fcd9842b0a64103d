# %% [markdown]
# # Basic classification
#
# A network that names clothes.

# %%
import matplotlib.pyplot as plt

import opsin

data = opsin.load("fashion-mnist")
print(data.summary())

# %%
run = opsin.train(data, model="mlp", epochs=2)

# %%
# alt: The accuracy of each epoch.
plt.plot(run.history.frame()["val_accuracy"])
plt.show()
