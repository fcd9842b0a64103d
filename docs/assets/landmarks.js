// Readers that hear a page go from landmark to landmark. Zensical gives two menus, and two lists of
// headings, the same name, and makes a landmark of the button beside each piece of code.
for (const [selector, name] of [
  [".md-path", "Where this page is"],
  [".md-nav--primary .md-nav--secondary", "On this page, in the menu"],
])
  for (const menu of document.querySelectorAll(selector)) menu.setAttribute("aria-label", name);
let pieces = 0;
new MutationObserver(() => {
  for (const buttons of document.querySelectorAll("nav.md-code__nav:not([aria-label])"))
    buttons.setAttribute("aria-label", `Code ${++pieces}`);
}).observe(document.body, { childList: true, subtree: true });
