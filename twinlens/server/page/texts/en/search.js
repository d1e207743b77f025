// English texts of the search page.

import { number, plural } from "../../shared/language.js";
import { captions, pictures } from "./shared.js";

export const texts = {
  box: {
    describe: "Describe a picture",
    describeOrDrop: "Describe a picture, or drop one here",
    addWords: "Add words",
    wanted: "Pictures to look for",
    unwanted: "What to exclude",
    words: "Words to look for",
    files: "Pictures to search with",
    withPicture: "Search with a picture",
    clear: "Clear",
    clearSearch: "Clear the search",
    yourPicture: "your picture",
    likeThis: "like this",
    notLikeThis: "not like this",
    remove: "Remove",
    removeChip: (name) => `Remove: ${name}`,
    removeExclusion: (words) => `Remove: without ${words}`,
    isNoPicture: (name) => `${name} is not a picture`,
    noPicture: "That is not a picture. Drop a picture file, or copy and paste a picture",
    unreadable: (name) => `${name} cannot be read`,
  },

  tools: {
    target: "Find",
    targets: { images: "Pictures", texts: "Captions" },
    mode: "Rank",
    modes: { dense: "By meaning", text: "By words", hybrid: "By both" },
    collection: "Collection",
    legend: "What the bars say",
    legendTitle: "How good a match is",
    strong: "strong: a real match with a probability of 75% or more",
    likely: "likely: from 50% on",
    weak: "weak: below. Under 25%, most are chance, and are listed as further away.",
  },

  filter: {
    label: "Filter",
    suggestions: "Suggestions",
    help: "Results must match this filter. Press Enter to apply it.",
    apply: "Apply",
    clear: "Clear",
    /** The types of fields, by the API's names. */
    types: {
      text: "text", path: "path", list: "list of texts", boolean: "true or false", integer: "number",
      number: "number", date: "date", mixed: "text or number",
    },
    chosen: "Chosen values",
    narrow: "Narrow by",
    remove: (name) => `Remove: ${name}`,
    values: (size) => plural(size, { one: "value", other: "values" }),
    more: (size) => `${number(size)} more: write them as a filter`,
    by: (filter) => `Filter by ${filter}`,
  },

  start: {
    title: "Describe the picture you are looking for.",
    ways: (touch, example) => [
      `Or ${touch ? "choose a picture" : "drop a picture here"} to find similar ones. Add `, example, " to exclude something.",
    ],
    examples: "Examples",
    counts: (images, others, name) =>
      `${pictures(images)}${others ? ` and ${captions(others)}` : ""}${name ? ` in ${name}` : ""}`,
    nothingStored: "There are no pictures here yet.",
    command: "Add some with this command:",
  },

  results: {
    label: "Results: arrow keys move, Enter opens",
    all: "All pictures",
    further: "Further away",
    onlyFurther: "No close matches: these are further away, mostly by chance",
    loadingMore: "Loading more …",
    loadingModel: "The server is loading the model. The results follow.",
    none: "No results",
    noneClose: "No close matches",
    saidFor: (words, asked) => `${words} for ${asked}`,
    matchFilter: (found) => `${pictures(found)} match the filter`,
    milliseconds: (took) => `${took} ms`,
    seconds: (took) => `${took} s`,
    end: {
      images: (found) => `End of results: ${pictures(found)}.`,
      texts: (found) => `End of results: ${captions(found)}.`,
    },
    pictureMissing: "This link needs a picture that was dropped in another tab. Drop it again.",
    pictureStays: "Your picture is not in the collection: it stays in this tab, and links do not include it.",
    more: "Pictures like this one",
    fewer: "Fewer like that one",
  },

  /** What is said instead of results, or above them. */
  messages: {
    wrong: "Something went wrong on this page",
    again: "Try again",
    trying: "Trying …",
    tryingIn: (seconds) => `Trying again in ${seconds} s`,
    searchIn: (name) => `Search in ${name}`,
    removePicture: (name) => `Remove ${name || "the picture"}`,
    removeClause: "Remove it from the filter",
    unreadable: (name) => `${name} cannot be read`,
    nothingClose: (asked) => `Nothing here comes close to ${asked}.`,
    nearest: {
      images: "These are the nearest pictures, but they are no nearer than chance would give. Try other words, or search with a picture.",
      texts: "These are the nearest captions, but they are no nearer than chance would give. Try other words, or search with a picture.",
    },
    byWords: "Search file names and captions",
    noneMatches: { images: "No picture matches the filter.", texts: "No caption matches the filter." },
    noneStored: { images: "There are no pictures to find.", texts: "There are no captions to find." },
    otherKind: "Search for the other kind instead.",
    removeFilter: "Remove the filter",
    /** The button that searches the other kind, by the kind that was searched. */
    find: { images: "Find captions", texts: "Find pictures" },
    onlyExcludes: "What should be in the picture?",
    onlyExcludesDetail: "So far the search only excludes things. Add words or a picture to look for.",
    onlyFilter: "What are you looking for?",
    onlyFilterDetail: "The filter is ready. Add words or a picture to look for.",
  },

  tile: {
    more: (title) => `More like this: ${title}`,
    selectKey: "Select (x)",
    select: (title) => `Select ${title}`,
    noPicture: "no picture",
  },

  timeline: {
    jump: "Jump to",
    years: "Years",
    block: "Pictures",
    noDate: "Without a date",
    month: (name, size) => `${name} (${number(size)})`,
  },

  viewer: {
    previous: "Previous result",
    next: "Next result",
    close: "Close (Esc)",
    details: "Details",
    captions: "Captions",
    position: (at, of) => `${at} of ${of}`,
    noPicture: "This caption has no picture.",
    fileMissing: "The picture file is missing, or the browser cannot show it.",
    notLikeThis: "Not like this",
    copyLink: "Copy link",
    linkCopied: "Link copied",
    openOriginal: "Open original",
    more: "more",
    less: "less",
  },

  details: {
    size: "Size",
    pixels: (width, height) => `${width} × ${height} pixels`,
    file: "File",
    bytes: (size) => `${size} bytes`,
    kilobytes: (size) => `${size} kB`,
    megabytes: (size) => `${size} MB`,
    taken: "Taken",
    day: (day) => `${day}`,
    year: "Year",
    changed: "Changed",
    place: "Place",
    path: "Path",
  },

  question: {
    label: "Does it show …?",
    example: "two dogs in the snow",
    ask: "Ask",
    empty: "Write what the picture may show.",
    answers: { strong: "Very probably", likely: "Probably", weak: "Perhaps", far: "Probably not" },
    answer: (said, relevance, words) => `${said}, ${relevance}: “${words}”`,
  },

  why: {
    title: "Why this?",
    comparing: "Comparing …",
    fit: (words) => `How well it fits “${words}”:`,
    picture: "The picture itself",
    file: "File: ",
  },

  selection: {
    label: "Selected pictures",
    selected: (size) => `${pictures(size)} selected`,
    none: "Select nothing",
    noneKey: "Select nothing (Esc)",
    download: "Download",
    tooManyDownloads: (most) => `At most ${number(most)} pictures can be downloaded at once.`,
    copyPaths: "Copy paths",
    copied: (size) => `${plural(size, { one: "path", other: "paths" })} copied`,
    cannotCopy: "The browser does not let this page copy.",
    album: "Album …",
    tag: "Tag …",
    askDelete: "Delete …",
    sure: "Delete?",
    sureDetail: "Delete them from the collection? The files stay.",
    delete: "Delete",
    keep: "Keep",
    tooManyDeletions: (most) => `At most ${number(most)} pictures can be deleted at once.`,
    deleted: (size) => `Deleted ${pictures(size)}`,
    deletedOne: (name) => `Deleted ${name}`,
    notDeleted: (reason) => `Nothing was deleted: ${reason}`,
  },

  album: {
    title: "Album",
    put: "Put in",
    take: "Take out",
    /** What is said if nothing had to be done. */
    already: { add: (album) => `Already in ${album}`, remove: (album) => `Not in ${album}` },
    /** What was done, by the API's names. */
    done: {
      add: (size, album) => `${pictures(size)} put into ${album}`,
      remove: (size, album) => `${pictures(size)} taken out of ${album}`,
    },
  },

  tag: {
    title: "Tag",
    put: "Add tag",
    take: "Remove tag",
    /** What is said if nothing had to be done. */
    already: { add: (tag) => `Already tagged ${tag}`, remove: (tag) => `Not tagged ${tag}` },
    /** What was done, by the API's names. */
    done: {
      add: (size, tag) => `${pictures(size)} tagged ${tag}`,
      remove: (size, tag) => `${pictures(size)} no longer tagged ${tag}`,
    },
  },

  saved: {
    title: "Saved searches",
    save: "Save …",
    saveTitle: "Save this search",
    name: "Name",
    explanation: "Everybody who uses this collection sees it on the start page.",
    keep: "Save",
    done: (name) => `Saved as ${name}`,
    gone: (name) => `Somebody else has removed ${name} already`,
    taken: (name) => `There is a search called ${name}. Save once more to replace it.`,
    remove: (name) => `Remove: ${name}`,
    removed: (name) => `Removed ${name}`,
    inexact: "This page leaves out what it cannot show of this search, such as weights and limits.",
  },

  upload: {
    title: "Add pictures",
    drop: "Drop pictures or folders here",
    ofDevice: "Pictures of this device",
    choose: "Choose pictures",
    chooseFolder: "Choose a folder",
    files: "Pictures to add",
    folder: "Folder to add",
    sent: "Pictures sent",
    stop: "Stop",
    failures: "Not stored",
    isNoPicture: "is not a picture",
    sending: (at, of) => `Sending ${at} of ${of}`,
    done: "Done",
    stopped: "Stopped",
    progress: (beginning, stored, known) =>
      `${beginning}: ${pictures(stored)} stored${known ? `, ${pictures(known)} known already` : ""}`,
  },

  shortcuts: {
    title: "Keyboard",
    box: "go to the search box",
    results: "go from the box to the results",
    move: "move among the results",
    open: "open a result",
    more: "more like it",
    not: "not like it",
    select: "select it; with Shift, all up to it",
    step: "show the previous or next result while one is open",
    zoom: "zoom into an open picture, or show all of it",
    close: "close, or select nothing",
    help: "show these shortcuts",
  },
};
