// The index of the search is the largest file of the site, so it is loaded with the reader's first
// click or key, not with every page.
{
  const { open, send } = XMLHttpRequest.prototype;
  XMLHttpRequest.prototype.open = function (method, address, ...rest) {
    this.isIndex = new URL(address, location).pathname.endsWith("/search.json");
    return open.call(this, method, address, ...rest);
  };
  XMLHttpRequest.prototype.send = function (body) {
    if (!this.isIndex) return send.call(this, body);
    const touched = () => {
      for (const kind of ["pointerdown", "keydown"]) removeEventListener(kind, touched, true);
      send.call(this, body);
    };
    for (const kind of ["pointerdown", "keydown"]) addEventListener(kind, touched, true);
  };
}
