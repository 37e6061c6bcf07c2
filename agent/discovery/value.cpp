// SPDX-License-Identifier: Apache-2.0
#include "discovery/value.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace mesh::discovery {
namespace {

void write_quoted(std::string_view text, std::string& out) {
  constexpr std::string_view kHex = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out += "\\u00";
          out += kHex[static_cast<unsigned char>(c) >> 4];
          out += kHex[static_cast<unsigned char>(c) & 15];
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

bool is_plain_key(std::string_view key) {
  return !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '-';
  }) && key.front() != '-';
}

void write_scalar(const Value& value, std::string& out) {
  switch (value.kind) {
    case Value::Kind::kNull:
      out += "null";
      break;
    case Value::Kind::kBool:
    case Value::Kind::kNumber:
      out += value.text;
      break;
    default:
      write_quoted(value.text, out);
  }
}

}  // namespace

const Value* Value::find(std::string_view name) const {
  for (const Value& item : items) {
    if (item.key == name) return &item;
  }
  return nullptr;
}

std::string_view Value::kind_name() const {
  constexpr std::array<std::string_view, 7> kNames = {"nothing",       "true or false", "a number", "a string",
                                                      "a plain value", "a list",        "a map"};
  return kNames[static_cast<std::size_t>(kind)];
}

Value Value::string(std::string text) {
  Value value;
  value.kind = Kind::kString;
  value.text = std::move(text);
  return value;
}

Value Value::number(std::int64_t number) {
  Value value;
  value.kind = Kind::kNumber;
  value.text = std::to_string(number);
  return value;
}

Value Value::boolean(bool truth) {
  Value value;
  value.kind = Kind::kBool;
  value.text = truth ? "true" : "false";
  return value;
}

Value Value::list() {
  Value value;
  value.kind = Kind::kList;
  return value;
}

Value Value::map() {
  Value value;
  value.kind = Kind::kMap;
  return value;
}

Value& Value::add(std::string name, Value value) {
  value.key = std::move(name);
  items.push_back(std::move(value));
  return items.back();
}

Place Document::resolve(Place place) const {
  if (place.line != 0) return place;
  const std::size_t offset = std::min<std::size_t>(place.column, text_.size());
  if (offset < line_start_) {
    counted_to_ = 0;
    line_ = 1;
    line_start_ = 0;
  }
  while (counted_to_ < offset) {
    const void* newline = std::memchr(text_.data() + counted_to_, '\n', offset - counted_to_);
    if (newline == nullptr) {
      counted_to_ = offset;  // no newline up to here: a file of one long line costs one pass in all
      break;
    }
    line_start_ = static_cast<std::size_t>(static_cast<const char*>(newline) - text_.data()) + 1;
    counted_to_ = line_start_;
    ++line_;
  }
  return {line_, static_cast<std::uint32_t>(offset - line_start_ + 1)};
}

ValueBuilder::ValueBuilder(const Document& document, Findings& findings, ReadLimits limits, Sink sink)
    : document_(document), findings_(findings), limits_(limits), sink_(std::move(sink)) {}

bool ValueBuilder::refuse(Place place, std::string message, std::string suggestion) {
  const Place at = document_.resolve(place);
  findings_.add_error({document_.file(), static_cast<int>(at.line), static_cast<int>(at.column), "", std::move(message),
                       std::move(suggestion)});
  return false;
}

Value* ValueBuilder::next_slot() {
  if (open_.empty()) {
    has_root_ = true;
    return &root_;
  }
  Value& slot = open_.back()->items.emplace_back();
  if (open_.back()->kind == Value::Kind::kMap) {
    slot.key = std::move(pending_key_);
    slot.key_place = pending_key_place_;
  }
  return &slot;
}

bool ValueBuilder::begin(Value::Kind kind, Place place) {
  if (open_.size() >= limits_.depth) {
    return refuse(place, "nested deeper than " + std::to_string(limits_.depth) + " levels", "");
  }
  if (++nodes_ > limits_.nodes) {
    return refuse(place, "more than " + std::to_string(limits_.nodes) + " values", "split it into several files");
  }
  Value* slot = next_slot();
  slot->kind = kind;
  slot->place = place;
  open_.push_back(slot);
  if (kind == Value::Kind::kList && open_.size() <= 2) streamed_ = 0;
  return true;
}

bool ValueBuilder::end() {
  Value& ended = *open_.back();
  open_.pop_back();
  return finish(ended);
}

bool ValueBuilder::key(std::string&& text, Place place) {
  Value& map = *open_.back();
  if (map.items.size() >= limits_.keys_per_map) {
    return refuse(place, "more than " + std::to_string(limits_.keys_per_map) + " keys in one map", "");
  }
  if (const Value* first = map.find(text); first != nullptr) {
    const Place at = document_.resolve(first->key_place);
    refuse(place, "duplicate key '" + text + "'",
           "it stands already in line " + std::to_string(at.line) + "; keep one of them");
  }
  pending_key_ = std::move(text);
  pending_key_place_ = place;
  return true;
}

bool ValueBuilder::scalar(Value::Kind kind, std::string&& text, Place place) {
  if (++nodes_ > limits_.nodes) {
    return refuse(place, "more than " + std::to_string(limits_.nodes) + " values", "split it into several files");
  }
  Value* slot = next_slot();
  slot->kind = kind;
  slot->place = place;
  slot->text = std::move(text);
  return finish(*slot);
}

bool ValueBuilder::insert(const Value& value, Place place) {
  if (value.is_scalar()) return scalar(value.kind, std::string(value.text), place);
  if (!begin(value.kind, place)) return false;
  for (const Value& item : value.items) {
    if (value.kind == Value::Kind::kMap && !key(std::string(item.key), place)) return false;
    if (!insert(item, place)) return false;
  }
  return end();
}

bool ValueBuilder::finish(Value& value) {
  last_ = &value;
  if (!sink_ || open_.empty() || open_.size() > 2) return true;
  Value& list = *open_.back();
  if (list.kind != Value::Kind::kList || (open_.size() == 2 && open_.front()->kind != Value::Kind::kMap)) return true;
  sink_(list.key, streamed_++, value);
  list.items.clear();  // keeps its capacity of one element
  nodes_ = 0;
  return true;
}

void write_json(const Value& value, std::string& out, JsonStyle style, unsigned depth) {
  if (value.is_scalar()) return write_scalar(value, out);
  const bool is_map = value.kind == Value::Kind::kMap;
  const auto line = [&](unsigned indentation) {
    if (style == JsonStyle::kCompact) return;
    out += '\n';
    out.append(std::size_t{indentation} * 2, ' ');
  };
  out += is_map ? '{' : '[';
  bool first = true;
  for (const Value& item : value.items) {
    if (!std::exchange(first, false)) out += ',';
    line(depth + 1);
    if (is_map) {
      write_quoted(item.key, out);
      out += style == JsonStyle::kCompact ? ":" : ": ";
    }
    write_json(item, out, style, depth + 1);
  }
  if (!first) line(depth);
  out += is_map ? '}' : ']';
}

void write_yaml(const Value& value, std::string& out, unsigned depth) {
  if (value.is_scalar() || value.items.empty()) {
    write_json(value, out, JsonStyle::kCompact);
    out += '\n';
    return;
  }
  bool first = true;
  for (const Value& item : value.items) {
    // The first key of a map that is a list element stands behind its dash.
    if (!std::exchange(first, false) || depth == 0 || value.kind == Value::Kind::kList) {
      out.append(std::size_t{depth} * 2, ' ');
    }
    if (value.kind == Value::Kind::kList) {
      out += "- ";
      if (item.kind == Value::Kind::kList) {
        write_json(item, out, JsonStyle::kCompact);
        out += '\n';
      } else {
        write_yaml(item, out, depth + 1);
      }
      continue;
    }
    if (is_plain_key(item.key)) {
      out += item.key;
    } else {
      write_quoted(item.key, out);
    }
    out += ':';
    if (item.is_scalar() || item.items.empty()) {
      out += ' ';
      write_yaml(item, out, depth + 1);
    } else {
      out += '\n';
      if (item.kind == Value::Kind::kMap) out.append((std::size_t{depth} + 1) * 2, ' ');
      write_yaml(item, out, depth + 1);
    }
  }
}

}  // namespace mesh::discovery
