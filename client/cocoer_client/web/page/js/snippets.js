/** What was just asked, as a `curl` line and in Python. Pure; knows nothing of the page. */

/** A word of a POSIX shell. */
export function shellQuote(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** A string literal of Python. */
export function pythonString(text) {
  // JSON's escapes are Python's too; what JSON leaves as it is, Python takes.
  return JSON.stringify(text);
}

function pythonValue(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "string") return pythonString(value);
  if (Array.isArray(value)) return `[${value.map(pythonValue).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value).map(([key, one]) => `${pythonString(key)}: ${pythonValue(one)}`).join(", ")}}`;
  }
  return String(value);
}

/** A file's name within curl's -F: in quotes, so that `;` and `,` have no meaning. */
function curlFile(name) {
  const plain = /^[\w./-]+$/.test(name);
  return plain ? `image=@${name}` : `image=@"${name.replace(/[\\"]/g, "\\$&")}"`;
}

/**
 * The line for a shell.
 * @param asked `{url, file, parameters, needsKey}`; `parameters`: name -> value, `persons` among them as an array.
 */
export function curlLine({ url, file, parameters, needsKey }) {
  const words = ["curl", "--fail-with-body"];
  if (needsKey) words.push("-H", '"Authorization: Bearer $COCOER_KEY"');
  words.push("-F", shellQuote(curlFile(file)));
  for (const [name, value] of Object.entries(parameters)) {
    const text = typeof value === "object" ? JSON.stringify(value) : String(value);
    words.push("--form-string", shellQuote(`${name}=${text}`));
  }
  return [...words, shellQuote(url)].join(" ");
}

/** With `requests` alone. */
export function pythonRequests({ url, file, parameters, needsKey }) {
  const data = Object.entries(parameters).map(([name, value]) =>
    name === "persons" ? `"persons": json.dumps(${pythonValue(value)})` : `${pythonString(name)}: ${pythonValue(value)}`,
  );
  return [
    ...("persons" in parameters ? ["import json"] : []),
    ...(needsKey ? ["import os"] : []),
    ...("persons" in parameters || needsKey ? [""] : []),
    "import requests",
    "",
    `with open(${pythonString(file)}, "rb") as image:`,
    "    answer = requests.post(",
    `        ${pythonString(url)},`,
    `        files={"image": image},`,
    ...(data.length ? ["        data={", ...data.map((one) => `            ${one},`), "        },"] : []),
    ...(needsKey ? ['        headers={"Authorization": "Bearer " + os.environ["COCOER_KEY"]},'] : []),
    "        timeout=60,",
    "    )",
    "answer.raise_for_status()",
    'for person in answer.json()["persons"]:',
    '    print(person["id"], *person["pred"])',
    "",
  ].join("\n");
}

/** With `cocoer_client`, which talks to the server itself. */
export function pythonClient({ file, parameters }) {
  const { persons, ...options } = parameters;
  const named = Object.entries(options).map(([name, value]) => `, ${name}=${pythonValue(value)}`).join("");
  return [
    "from pathlib import Path",
    "",
    "from cocoer_client import CocoerClient",
    "",
    ...(persons ? [`persons = ${pythonValue(persons)}`, ""] : []),
    'with CocoerClient("localhost:8001") as client:  # the server\'s gRPC address',
    `    result = client.infer(Path(${pythonString(file)}).read_bytes()${persons ? ", persons" : ""}${named})`,
    "for person in result.persons:",
    "    print(person.id, *person.pred)",
    "",
  ].join("\n");
}
