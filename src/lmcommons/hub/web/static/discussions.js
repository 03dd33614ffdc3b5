// Files that are dropped on, or pasted into, the text of a comment are uploaded, and their Markdown is put there.
(() => {
  const insert = (area, text) => {
    area.setRangeText(text, area.selectionStart, area.selectionEnd, "end");
    area.dispatchEvent(new Event("input", { bubbles: true }));
  };

  const upload = async (area, files) => {
    const holder = `[${[...files].map((file) => file.name).join(", ")} …]`;
    insert(area, holder);
    const body = new FormData();
    body.append("form", area.form.elements.form.value);
    for (const file of files) body.append("file", file);
    let text;
    try {
      const answer = await fetch(area.dataset.attach, { method: "POST", body, headers: { Accept: "application/json" } });
      text = answer.ok ? await answer.text() : `[${(await answer.json()).error}]`;
    } catch (error) {
      text = `[${error.message}]`;
    }
    area.value = area.value.replace(holder, () => text);
    area.focus();
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
