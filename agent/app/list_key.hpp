// SPDX-License-Identifier: Apache-2.0
// Keys that several tables of the relay's configuration have: paths of files, and lists of objects of one table.
#pragma once

#include <string>
#include <string_view>

#include "discovery/keys.hpp"

namespace mesh::app {

template <auto Member>
void decode_file(discovery::Decoder& decoder, const discovery::Key& key, const discovery::Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  if (!text.empty() && !text.starts_with('/')) {
    decoder.error(value, "a path starts with /");
    return;
  }
  static_cast<typename discovery::keys_detail::MemberTraits<decltype(Member)>::Object*>(target)->*Member =
      std::move(text);
}

/// A list of objects of one table.
template <auto Member, std::size_t Max, const discovery::Table& Elements>
void decode_list(discovery::Decoder& decoder, const discovery::Key& key, const discovery::Value& value, void* target) {
  if (value.kind == discovery::Value::Kind::kNull || !decoder.is_list(value)) return;
  auto& list = static_cast<typename discovery::keys_detail::MemberTraits<decltype(Member)>::Object*>(target)->*Member;
  if (value.items.size() > Max) {
    decoder.error(value, "more than " + std::to_string(Max) + " " + std::string(key.name));
    return;
  }
  list.clear();
  list.reserve(value.items.size());
  decoder.each(value, [&](const discovery::Value& item) {
    auto& element = list.emplace_back();
    decoder.table(Elements, item, &element);
  });
}

template <auto Member, const discovery::Table& Elements>
discovery::Value encode_list(const discovery::Key&, const void* target, discovery::Secrets secrets) {
  discovery::Value list = discovery::Value::list();
  using Object = typename discovery::keys_detail::MemberTraits<decltype(Member)>::Object;
  for (const auto& element : static_cast<const Object*>(target)->*Member) {
    list.items.push_back(discovery::encode(Elements, &element, secrets));
  }
  return list;
}

template <auto Member, std::size_t Max, const discovery::Table& Elements>
constexpr discovery::Key list_key(std::string_view name, std::string_view doc, std::string_view schema) {
  return {.name = name,
          .doc = doc,
          .schema = schema,
          .decode = decode_list<Member, Max, Elements>,
          .encode = encode_list<Member, Elements>};
}

}  // namespace mesh::app
