// SPDX-License-Identifier: Apache-2.0
#include "discovery/yaml_reader.hpp"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <sstream>
#include <unordered_map>
#include <utility>

namespace mesh::discovery {
namespace {

Place place_of(const YAML::Mark& mark) {
  if (mark.is_null() || mark.line < 0 || mark.column < 0) return {1, 1};
  return {static_cast<std::uint32_t>(mark.line) + 1, static_cast<std::uint32_t>(mark.column) + 1};
}

/// Feeds a ValueBuilder. After the first broken limit it ignores what follows: the library can't be stopped from here.
class EventsToValues final : public YAML::EventHandler {
 public:
  EventsToValues(const Document& document, Findings& findings)
      : document_(document), findings_(findings), builder_(document, findings, ReadLimits{}, nullptr) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    scalar(Value::Kind::kNull, place_of(mark), anchor, {});
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& text) override {
    // "?" is an unquoted scalar, "!" a quoted one; anything else is an explicit tag, of which only !!str means
    // anything.
    scalar(tag == "?" || tag.empty() ? Value::Kind::kPlain : Value::Kind::kString, place_of(mark), anchor, text);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (!good_) return;
    if (expects_key()) return refuse(mark, "an alias can't be a key", "");
    const auto found = anchored_.find(anchor);
    if (found == anchored_.end()) return refuse(mark, "an alias can't stand inside what it names", "");
    good_ = builder_.insert(found->second, place_of(mark));
    value_ended();
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    begin(Value::Kind::kList, mark, anchor);
  }
  void OnSequenceEnd() override { end(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    begin(Value::Kind::kMap, mark, anchor);
  }
  void OnMapEnd() override { end(); }

  void refuse(const YAML::Mark& mark, std::string message, std::string suggestion) {
    const Place at = place_of(mark);
    findings_.add_error({document_.file(), static_cast<int>(at.line), static_cast<int>(at.column), "",
                         std::move(message), std::move(suggestion)});
    good_ = false;
  }

  [[nodiscard]] bool good() const { return good_; }
  Value& root() { return builder_.root(); }

 private:
  struct Open {
    bool is_map;
    bool key_next;
    YAML::anchor_t anchor;
  };

  [[nodiscard]] bool expects_key() const { return !open_.empty() && open_.back().is_map && open_.back().key_next; }

  void value_ended() {
    if (!open_.empty() && open_.back().is_map) open_.back().key_next = true;
  }

  void scalar(Value::Kind kind, Place place, YAML::anchor_t anchor, std::string text) {
    if (!good_) return;
    if (expects_key()) {
      open_.back().key_next = false;
      good_ = builder_.key(std::move(text), place);
      return;
    }
    good_ = builder_.scalar(kind, std::move(text), place);
    if (good_ && anchor != 0) anchored_[anchor] = builder_.last();
    value_ended();
  }

  void begin(Value::Kind kind, const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (!good_) return;
    if (expects_key()) return refuse(mark, "a key can't be a list or a map", "");
    good_ = builder_.begin(kind, place_of(mark));
    open_.push_back({kind == Value::Kind::kMap, kind == Value::Kind::kMap, anchor});
  }

  void end() {
    if (!good_) return;
    good_ = builder_.end();
    const YAML::anchor_t anchor = open_.back().anchor;
    open_.pop_back();
    if (good_ && anchor != 0 && anchored_.size() < kMaxAnchors) anchored_[anchor] = builder_.last();
    value_ended();
  }

  static constexpr std::size_t kMaxAnchors = 1000;

  const Document& document_;
  Findings& findings_;
  ValueBuilder builder_;
  bool good_ = true;
  std::vector<Open> open_;
  std::unordered_map<YAML::anchor_t, Value> anchored_;
};

}  // namespace

std::optional<Value> read_yaml(const Document& document, std::string_view text, Findings& findings) {
  if (text.size() > kMaxYamlBytes) {
    findings.add_error({document.file(), 0, 0, "",
                        "larger than " + std::to_string(kMaxYamlBytes >> 20) + " MiB of YAML",
                        "put the services into JSON files and name them in 'files:'"});
    return std::nullopt;
  }
  if (const auto zero = text.find('\0'); zero != std::string_view::npos) {
    findings.add_error({document.file(), 0, 0, "", "not YAML: byte " + std::to_string(zero + 1) + " is zero",
                        "name a text file in UTF-8"});
    return std::nullopt;
  }
  EventsToValues events(document, findings);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(events)) {
      findings.add_error({document.file(), 0, 0, "", "the file is empty",
                          "write at least `apiVersion: meshd/v1`, in a file of services `services: []`"});
      return std::nullopt;
    }
    if (parser) {
      findings.add_error(
          {document.file(), 0, 0, "", "more than one YAML document", "remove the second '---' and what follows"});
    }
  } catch (const YAML::Exception& exception) {
    events.refuse(exception.mark, "not YAML: " + exception.msg,
                  "look here and above for an open bracket or quote, a missing colon, or a tab");
  }
  if (!events.good()) return std::nullopt;
  return std::move(events.root());
}

}  // namespace mesh::discovery
