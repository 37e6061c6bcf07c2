// SPDX-License-Identifier: Apache-2.0
#include "discovery/json_slices.hpp"

namespace mesh::discovery {
namespace {

class Cutter {
 public:
  explicit Cutter(std::string_view text) : at_(text.data()), end_(text.data() + text.size()) {}

  bool take(char wanted) {
    skip_space();
    if (at_ == end_ || *at_ != wanted) return false;
    ++at_;
    return true;
  }

  bool take_key(std::string_view key) {
    if (!take('"') || static_cast<std::size_t>(end_ - at_) <= key.size()) return false;
    if (std::string_view(at_, key.size()) != key || at_[key.size()] != '"') return false;
    at_ += key.size() + 1;
    return true;
  }

  /// From `{` to the `}` that closes it; braces in strings don't count.
  std::optional<std::string_view> take_object() {
    skip_space();
    const char* const start = at_;
    std::size_t depth = 0;
    while (at_ != end_) {
      const char c = *at_++;
      if (c == '"') {
        if (!skip_string()) return std::nullopt;
      } else if (c == '{') {
        ++depth;
      } else if (c == '}') {
        if (--depth == 0) return std::string_view(start, static_cast<std::size_t>(at_ - start));
      }
      if (depth == 0) return std::nullopt;  // it does not start with a brace
    }
    return std::nullopt;
  }

  bool at_end() {
    skip_space();
    return at_ == end_;
  }

 private:
  void skip_space() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\t' || *at_ == '\r')) ++at_;
  }

  bool skip_string() {
    while (at_ != end_) {
      const char c = *at_++;
      if (c == '"') return true;
      if (c == '\\') {
        if (at_ == end_) return false;
        ++at_;
      }
    }
    return false;
  }

  const char* at_;
  const char* end_;
};

}  // namespace

std::optional<std::vector<std::string_view>> slice_elements(std::string_view text, std::string_view key) {
  Cutter cutter(text);
  if (!cutter.take('{') || !cutter.take_key(key) || !cutter.take(':') || !cutter.take('[')) return std::nullopt;
  std::vector<std::string_view> slices;
  if (!cutter.take(']')) {
    do {
      const auto slice = cutter.take_object();
      if (!slice) return std::nullopt;
      slices.push_back(*slice);
    } while (cutter.take(','));
    if (!cutter.take(']')) return std::nullopt;
  }
  if (!cutter.take('}') || !cutter.at_end()) return std::nullopt;
  return slices;
}

}  // namespace mesh::discovery
