"""The studio's pages, one module each; its `PAGE` names the address and what builds the page."""
