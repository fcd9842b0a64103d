"""How the pages about trainings and runs look."""

from __future__ import annotations

from typing import Final

CSS: Final = """
.op-field { width: 100%; max-width: 30rem; min-width: 0; }
.op-row > .op-field { flex: 1 1 8rem; width: auto; }
.op-choice { width: 14rem; max-width: 100%; }
.op-page .op-slider { width: min(36rem, 100% - 1.2rem); margin: .4rem .6rem .6rem; }
.op-page .op-lines { white-space: pre; overflow: auto; max-width: 100%; max-height: 80vh; }
.op-page .op-hint { color: var(--muted); font-size: .82rem; margin: .1rem 0 .7rem;
  max-width: 30rem; }
.op-more { margin: .6rem 0; }
.op-page .op-more .nicegui-expansion-content { gap: .2rem; padding: .2rem 0; }
.op-below .op-sheet .op-table { font-size: .84rem; }
.op-below .op-sheet th, .op-below .op-sheet td { padding: .22rem .45rem; }
.op-run-state { font-weight: 500; }
.op-below { margin: 0 0 1rem; align-items: start; }
.op-page .op-verdict { font-size: 1.15rem; max-width: 52rem; }
.op-work { font-weight: 500; }
.op-follow { margin: 0 0 1rem; }
.op-pairs { list-style: none; margin: .2rem 0 .6rem; padding: 0; display: grid; gap: .2rem; }
.op-pairs li { display: flex; flex-wrap: wrap; gap: 0 .7rem; }
.op-figure { margin: 1rem 0; }
.op-figure img { background: #fff; border-radius: .4rem; padding: .5rem; max-width: 100%;
  box-sizing: border-box; }
.op-figure figcaption { color: var(--muted); font-size: .9rem; }
.op-suspects { display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); }
.op-suspect { border: 1px solid var(--line); border-radius: .7rem; padding: .8rem; min-width: 0; }
.op-suspect figure { margin: 0; min-width: 0; max-width: 112px; }
.op-suspect figcaption { font-size: .8rem; overflow-wrap: anywhere; }
"""
