// SPDX-License-Identifier: Apache-2.0
// JSON for the admin wire types, written once per type: every struct lists its keys in one `fields` function, which the
// writer and the reader both walk, so a key can't be written under one name and read under another.
//
//   struct MapFill {
//     std::string name;
//     std::uint64_t used = 0;
//     static void fields(auto& self, auto& visit) { visit("name", self.name), visit("used", self.used); }
//   };
//
// Rules of the wire: keys are snake_case and stable; a document starts with apiVersion and kind; in an answer
// an unknown key is skipped and an absent one keeps its default, so that meshctl and meshd of neighbouring versions
// understand each other; in a request an unknown key is an error; a key of the wrong type is an error that names its
// path. Durations are seconds, times are RFC 3339 in UTC.
#pragma once

#include <concepts>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/error.hpp"

namespace mesh::api {

using Json = nlohmann::ordered_json;

inline constexpr std::string_view kApiVersion = "meshd/v1";

namespace detail {

struct AnyVisitor {
  void operator()(const char*, const auto&) {}
};

template <typename T>
concept Described = requires(T& value, AnyVisitor& visitor) { T::fields(value, visitor); };

template <typename T>
Json to_json_value(const T& value);

struct Writer {
  Json& object;
  template <typename T>
  void operator()(const char* key, const T& value) {
    object[key] = to_json_value(value);
  }
};

template <typename T>
struct IsVector : std::false_type {};
template <typename T>
struct IsVector<std::vector<T>> : std::true_type {};
template <typename T>
struct IsOptional : std::false_type {};
template <typename T>
struct IsOptional<std::optional<T>> : std::true_type {};

template <typename T>
Json to_json_value(const T& value) {
  if constexpr (Described<const T>) {
    Json object = Json::object();
    Writer writer{object};
    T::fields(value, writer);
    return object;
  } else if constexpr (IsVector<T>::value) {
    Json array = Json::array();
    for (const auto& element : value) array.push_back(to_json_value(element));
    return array;
  } else if constexpr (IsOptional<T>::value) {
    return value ? to_json_value(*value) : Json(nullptr);
  } else {
    return Json(value);
  }
}

/// Reads into `value`; on a wrong type leaves it and puts "path: expected X" into `error` (the first one stays).
template <typename T>
void from_json_value(const Json& json, T& value, const std::string& path, std::string& error);

inline void expected(const std::string& path, std::string_view what, std::string& error) {
  if (error.empty()) error = (path.empty() ? std::string("document") : path) + ": expected " + std::string(what);
}

struct Reader {
  const Json& object;
  const std::string& path;
  std::string& error;
  template <typename T>
  void operator()(const char* key, T& value) {
    const auto found = object.find(key);
    if (found == object.end() || found->is_null()) return;
    from_json_value(*found, value, path.empty() ? key : path + "." + key, error);
  }
};

template <typename T>
void from_json_value(const Json& json, T& value, const std::string& path, std::string& error) {
  if constexpr (Described<T>) {
    if (!json.is_object()) return expected(path, "an object", error);
    Reader reader{json, path, error};
    T::fields(value, reader);
  } else if constexpr (IsVector<T>::value) {
    if (!json.is_array()) return expected(path, "a list", error);
    value.clear();
    value.reserve(json.size());
    for (const auto& element : json) {
      from_json_value(element, value.emplace_back(), path + "[" + std::to_string(value.size() - 1) + "]", error);
    }
  } else if constexpr (IsOptional<T>::value) {
    from_json_value(json, value.emplace(), path, error);
  } else if constexpr (std::same_as<T, bool>) {
    if (!json.is_boolean()) return expected(path, "true or false", error);
    value = json.template get<bool>();
  } else if constexpr (std::integral<T>) {
    if (!json.is_number_integer()) return expected(path, "a whole number", error);
    const bool fits = json.is_number_unsigned() ? std::in_range<T>(json.template get<std::uint64_t>())
                                                : std::in_range<T>(json.template get<std::int64_t>());
    if (!fits) return expected(path, "a number in range", error);
    value = json.template get<T>();
  } else if constexpr (std::floating_point<T>) {
    if (!json.is_number()) return expected(path, "a number", error);
    value = json.template get<T>();
  } else if constexpr (std::same_as<T, std::string>) {
    if (!json.is_string()) return expected(path, "a text", error);
    value = json.template get_ref<const std::string&>();
  } else {
    static_assert(std::same_as<T, Json>, "no JSON form for this type");
    value = json;
  }
}

/// Compact text; bytes that are not UTF-8 become U+FFFD.
std::string dump(const Json& json);
base::Result<Json> parse(std::string_view text);
/// `kInvalid` if the object has a key other than `known`, apiVersion and kind.
base::Result<void> refuse_unknown_keys(const Json& object, std::string_view kind,
                                       const std::vector<std::string>& known);

}  // namespace detail

/// A whole document: {"apiVersion":"meshd/v1","kind":T::kKind, ...}. Compact, no final newline.
template <typename T>
Json to_document(const T& value) {
  Json document = {{"apiVersion", kApiVersion}, {"kind", T::kKind}};
  detail::Writer writer{document};
  T::fields(value, writer);
  return document;
}

template <typename T>
std::string encode(const T& value) {
  return detail::dump(to_document(value));
}

/// A document of this type. `kInvalid` if it is no JSON, of another kind or apiVersion, or a key has the wrong type.
/// apiVersion and kind may be absent: a person types requests with curl.
template <typename T>
base::Result<T> from_document(const Json& json) {
  const auto wrong = [](std::string cause) {
    return base::fail(base::ErrorKind::kInvalid, "decode " + std::string(T::kKind) + ": " + std::move(cause));
  };
  if (!json.is_object()) return wrong("expected an object");
  for (const auto& [key, want] : {std::pair{"apiVersion", kApiVersion}, std::pair{"kind", T::kKind}}) {
    const auto found = json.find(key);
    if (found != json.end() && *found != want) {
      return wrong("has " + std::string(key) + " " + detail::dump(*found) + ", not " + std::string(want));
    }
  }
  T value;
  std::string error;
  detail::from_json_value(json, value, "", error);
  if (!error.empty()) return wrong(std::move(error));
  return value;
}

template <typename T>
base::Result<T> decode(std::string_view text) {
  return from_document<T>(MESH_TRY(detail::parse(text)));
}

/// What a client asks the agent to do; empty text is an empty object. Unlike in an answer a key that is not of this
/// type is `kInvalid`, so that a typing error never widens a change.
template <typename T>
base::Result<T> decode_request(std::string_view text) {
  const Json json = MESH_TRY(detail::parse(text.empty() ? "{}" : text));
  T value = MESH_TRY(from_document<T>(json));
  std::vector<std::string> known;
  const auto note = [&](const char* key, const auto&) { known.emplace_back(key); };
  T::fields(std::as_const(value), note);
  MESH_CHECK(detail::refuse_unknown_keys(json, T::kKind, known));
  return value;
}

}  // namespace mesh::api
