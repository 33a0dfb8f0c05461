// Words of the glossary where they stand on the page: a sentence for each, on hover and for those who hear the page.

export function explainTerms(element, glossary) {
  for (const node of element.querySelectorAll("[data-term]")) {
    const sentence = glossary[node.dataset.term];
    node.title = [node.title, sentence].filter(Boolean).join(" ");
    node.setAttribute("aria-description", sentence);
  }
}
