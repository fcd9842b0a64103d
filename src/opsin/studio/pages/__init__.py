"""The studio's pages, one module each: `add` registers its addresses."""
