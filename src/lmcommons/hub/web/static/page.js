// Small helps on every page, all of which works without them.

// A button beside each block of code, and beside each short text with `data-copy`, that copies it.
(() => {
  const { label, done } = document.currentScript.dataset;

  const button = (text, source) => {
    const made = document.createElement("button");
    const word = document.createElement("span");
    made.type = "button";
    made.className = "copy";
    made.title = label;
    word.className = "hidden";
    word.textContent = label;
    word.setAttribute("aria-live", "polite");
    made.append(word);
    made.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text);
      } catch { // browsers give the clipboard to pages over TLS alone
        return getSelection().selectAllChildren(source);
      }
      made.classList.add("done");
      word.textContent = done;
      setTimeout(() => {
        made.classList.remove("done");
        word.textContent = label;
      }, 2000);
    });
    return made;
  };

  for (const block of document.querySelectorAll("main pre:not(.code, .diff, .spoken)")) {
    const box = document.createElement("div");
    box.className = "copied";
    block.replaceWith(box);
    box.append(block, button(block.textContent.trimEnd(), block));
  }
  for (const text of document.querySelectorAll("main [data-copy]")) text.append(button(text.dataset.copy, text));
})();

// What somebody asked of a part of the page and did not get is said at the foot of the window, until they ask again.
(() => {
  const { lost } = document.currentScript.dataset;
  const told = document.createElement("p");
  told.className = "notice told";
  told.setAttribute("role", "alert");

  const tell = (event, text) => {
    if (!event.detail.requestConfig.triggeringEvent) return; // a part that asks by itself does so again
    told.remove();
    told.textContent = text;
    if (text) document.getElementById("content").append(told);
  };

  document.addEventListener("htmx:beforeRequest", (event) => tell(event, ""));
  document.addEventListener("htmx:responseError", (event) => tell(event, event.detail.xhr.responseText));
  document.addEventListener("htmx:sendError", (event) => tell(event, lost));
})();

// A search that follows what is typed waits for an input method to end: letters on their way to a character are no word.
document.addEventListener("input", (event) => {
  if (event.isComposing && event.target.type === "search") event.stopPropagation();
}, true);
document.addEventListener("compositionend", ({ target }) => {
  if (target.type === "search") target.dispatchEvent(new Event("input", { bubbles: true }));
});

// Files that are dropped on, or pasted into, the text of a comment are uploaded, and their Markdown is put there.
(() => {
  const { lost } = document.currentScript.dataset;
  const sending = new WeakMap(); // textarea -> uploads that have not ended

  const insert = (area, text) => {
    area.setRangeText(text, area.selectionStart, area.selectionEnd, "end");
    area.dispatchEvent(new Event("input", { bubbles: true }));
  };

  const upload = async (area, files) => {
    const holder = `[${[...files].map((file) => file.name).join(", ")} …]`;
    insert(area, holder);
    sending.set(area, (sending.get(area) ?? 0) + 1);
    area.setCustomValidity(holder); // the comment is not sent without them
    const body = new FormData();
    body.append("form", area.form.elements.form.value);
    for (const file of files) body.append("file", file);
    let text;
    try {
      const answer = await fetch(area.dataset.attach, { method: "POST", body, headers: { Accept: "text/html", "HX-Request": "true" } });
      text = await answer.text();
      if (!answer.ok) text = `[${text}]`;
    } catch { // a network without an answer
      text = `[${lost}]`;
    }
    const start = area.value.indexOf(holder);
    if (start >= 0) area.setRangeText(text, start, start + holder.length, "preserve");
    area.dispatchEvent(new Event("input", { bubbles: true }));
    sending.set(area, sending.get(area) - 1);
    if (!sending.get(area)) area.setCustomValidity("");
  };

  const take = (event, data) => {
    const area = event.target.closest?.("textarea[data-attach]");
    if (!area || !data?.files.length) return;
    event.preventDefault();
    upload(area, data.files);
  };

  document.addEventListener("dragover", (event) => {
    if (event.target.closest?.("textarea[data-attach]") && event.dataTransfer.types.includes("Files")) event.preventDefault();
  });
  document.addEventListener("drop", (event) => take(event, event.dataTransfer));
  document.addEventListener("paste", (event) => take(event, event.clipboardData));
})();
