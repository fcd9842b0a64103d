// One card for all marked words. Pointing, Tab or a tap shows it, Escape or the next click hides it;
// from a word, Tab leads into its card and back.
(() => {
  const card = document.createElement("div");
  card.id = "op-term-card";
  card.popover = "manual";
  card.setAttribute("role", "dialog");
  card.setAttribute("aria-labelledby", "op-term-title");
  card.innerHTML = '<h2 id="op-term-title"></h2><p></p><a target="opsin-help">More</a>';
  const [title, text, more] = card.children;
  let mark = null;
  let pinned = false;
  let silent = false;
  let timer = 0;

  const marked = (place) => (place instanceof Element ? place.closest("[data-term]") : null);

  function show(other) {
    clearTimeout(timer);
    const said = TERMS[other.dataset.term];
    if (!said || other === mark) return;
    hide();
    mark = other;
    mark.setAttribute("aria-expanded", "true");
    [title.textContent, text.textContent] = said;
    more.href = `/help/reference/glossary.html#${mark.dataset.term}`;
    more.setAttribute("aria-label", `More about ${said[0]}`);
    document.body.append(card);
    card.showPopover();
    place();
  }

  function hide() {
    clearTimeout(timer);
    if (!mark) return;
    mark.setAttribute("aria-expanded", "false");
    mark = null;
    pinned = false;
    card.hidePopover();
    card.remove();
  }

  function place() {
    const at = mark.getBoundingClientRect();
    const own = card.getBoundingClientRect();
    const left = Math.min(at.left, document.documentElement.clientWidth - own.width - 12);
    const below = at.bottom + 8;
    const fits = below + own.height < innerHeight || at.top < own.height + 8;
    card.style.left = `${Math.max(12, left)}px`;
    card.style.top = `${fits ? below : at.top - own.height - 8}px`;
  }

  document.addEventListener("pointerover", (event) => {
    if (event.pointerType === "touch") return;
    const other = marked(event.target);
    clearTimeout(timer);
    if (other) timer = setTimeout(show, 250, other);
    else if (mark && !pinned && !card.contains(event.target)) timer = setTimeout(hide, 300);
  });
  document.addEventListener("focusin", (event) => {
    const other = marked(event.target);
    if (silent) return;
    if (other?.matches(":focus-visible")) show(other);
    else if (!other && !card.contains(event.target)) hide();
  });
  // Before the page hears of it: a ? in a field is no click on the field.
  document.addEventListener("click", (event) => {
    const other = marked(event.target);
    if (!other) return card.contains(event.target) || hide();
    event.preventDefault();
    event.stopPropagation();
    if (other === mark && pinned) return hide();
    show(other);
    pinned = true;
  }, true);
  document.addEventListener("keydown", (event) => {
    if (!mark) return;
    const inside = card.contains(document.activeElement);
    if (event.key === "Escape") {
      const back = mark;
      hide();
      silent = true;
      if (inside) back.focus();
      silent = false;
    } else if (event.key === "Tab" && !inside && !event.shiftKey && document.activeElement === mark) {
      event.preventDefault();
      more.focus();
    } else if (event.key === "Tab" && inside) {
      // Forward, the browser goes on from the word itself.
      if (event.shiftKey) event.preventDefault();
      mark.focus();
    }
  });
  addEventListener("scroll", () => mark && place(), { capture: true, passive: true });
  addEventListener("resize", () => mark && place());
})();
