/** Elements of the page, made without strings of HTML. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element. Attributes that are null or false are left out, functions named `on...` listen, `style` is an object
 * (the policy of the page forbids the attribute), `class` and `text` are what they say.
 */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "style") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
    else if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const $ = (id) => document.getElementById(id);

/** A fraction as CSS has it. */
export const percent = (fraction) => `${(100 * fraction).toFixed(3)}%`;

/** Put an element over the image: a box as `fractions` gives it. */
export function place(element, { left, top, width, height }) {
  for (const [name, value] of Object.entries({ left, top, width, height })) element.style.setProperty(name, percent(value));
}

/** Have a downloaded file saved under a name. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
