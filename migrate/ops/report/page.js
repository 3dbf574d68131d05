"use strict";
// Shows and hides samples by verdict; the page is complete without it.
(() => {
  const chooser = document.getElementById("chooser");
  if (!chooser) return;
  const boxes = [...chooser.querySelectorAll("input")];
  const chosen = document.getElementById("chosen");
  const apply = () => {
    let shown = 0;
    for (const box of boxes) {
      const group = document.getElementById(box.value);
      group.hidden = !box.checked;
      if (box.checked) shown += group.querySelectorAll("details").length;
    }
    chosen.textContent = shown === 1 ? "1 sample is shown" : shown + " samples are shown";
  };
  for (const box of boxes) box.addEventListener("change", apply);
  chooser.hidden = false;
  apply();
})();
