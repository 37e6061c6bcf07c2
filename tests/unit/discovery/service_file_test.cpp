// SPDX-License-Identifier: Apache-2.0
#include "discovery/service_file.hpp"

#include <gtest/gtest.h>

#include "base/random.hpp"

namespace mesh::discovery {
namespace {

std::string findings_of(const ParsedFile& parsed) {
  std::string text;
  for (const Diagnostic& error : parsed.findings.errors) text += error.to_string() + "\n";
  return text;
}

TEST(ServiceFile, errors_in_json_have_line_column_key_and_remedy) {
  const auto parsed = parse_services("/s.json", R"({"services": [
  {"name": "a\u0062", "address": "240.64.0.1:80",
   "endpoints": [{"address": "10.0.0.1:80", "weight": 70000}, {"adress": "10.0.0.2:80"}]},
  {"name": "b", "address": "240.64.0.2:80", "weight": 1e3, "file": "/x", "endpoints": []}
]})",
                                     {});
  EXPECT_EQ(
      findings_of(parsed),
      "/s.json:3:55: services[0].endpoints[0].weight: 70000 is out of range; use 0 to 65535\n"
      "/s.json:3:64: services[0].endpoints[1].adress: unknown key in an endpoint; did you mean 'address'?\n"
      "/s.json:3:63: services[0].endpoints[1]: the key 'address' is missing\n"
      "/s.json:4:45: services[1].weight: unknown key in a service; use one of: name, address, protocol, endpoints, "
      "balance, hash_key, affinity_timeout, panic_threshold, prefer, prefer_threshold, slow_start, feedback, "
      "maglev_size, ejection, tls, probe, drain_timeout, on_down, reset_after, max_connection_age\n"
      "/s.json:4:60: services[1].file: is for services in meshd.yaml; list the endpoints here\n");
}

TEST(ServiceFile, ejection_is_on_off_or_a_map_and_comes_back_as_it_was) {
  const auto parsed = parse_services("/s.json", R"({"services":[
 {"name":"a","address":"240.64.0.1:80","endpoints":[]},
 {"name":"b","address":"240.64.0.2:80","endpoints":[],"ejection":"off"},
 {"name":"c","address":"240.64.0.3:80","endpoints":[],"ejection":{"consecutive_failures":3,"base_time":"10m"}}
]})",
                                     {});
  EXPECT_EQ(findings_of(parsed), "");
  ASSERT_EQ(parsed.services.size(), 3U);
  EXPECT_EQ(parsed.services[0]->ejection, model::EjectionPolicy{});
  EXPECT_FALSE(parsed.services[1]->ejects());
  EXPECT_EQ(parsed.services[2]->ejection.consecutive_failures, 3U);
  EXPECT_EQ(parsed.services[2]->ejection.max_time, std::chrono::minutes(10))
      << "an inherited shorter one is lengthened";
  for (const model::ServicePtr& service : parsed.services) {
    Value root = Value::map();
    root.add("services", Value::list()).items.push_back(encode_service(*service, Secrets::kReveal));
    std::string text;
    write_json(root, text);
    const auto again = parse_services("/s.json", text, {});
    ASSERT_EQ(again.services.size(), 1U) << text;
    EXPECT_EQ(again.services[0]->ejection, service->ejection) << text;
  }
}

TEST(ServiceFile, what_ejection_can_not_be) {
  const auto parsed = parse_services("/s.json", R"({"services":[
 {"name":"a","address":"240.64.0.1:80","endpoints":[],"feedback":false,"ejection":"on"},
 {"name":"b","address":"240.64.0.2:80","endpoints":[],"ejection":"sometimes"},
 {"name":"c","address":"240.64.0.3:80","endpoints":[],"ejection":{"base_time":"1m","max_time":"30s"}}
]})",
                                     {});
  EXPECT_EQ(
      findings_of(parsed),
      "/s.json:3:66: services[1].ejection: must be a map of keys and values, on or off\n"
      "/s.json:4:95: services[2].ejection.max_time: shorter than the base_time of 60000ms; set a longer max_time or "
      "a shorter base_time\n");
  ASSERT_EQ(parsed.findings.warnings.size(), 1U);
  EXPECT_EQ(parsed.findings.warnings[0].to_string(),
            "/s.json:2:83: services[0].ejection: does nothing without feedback; set feedback: true or ejection: off");
}

TEST(ServiceFile, a_duplicate_key_in_json_is_an_error) {
  EXPECT_EQ(findings_of(parse_services("/s.json", R"({"services":[],
 "services":[]})",
                                       {})),
            "/s.json:2:2: duplicate key 'services'; it stands already in line 1; keep one of them\n");
}

TEST(ServiceFile, text_that_is_no_json_is_an_error_at_its_place) {
  const std::string findings = findings_of(parse_services("/s.json", "{\"services\": [\n  {]}", {}));
  EXPECT_TRUE(findings.starts_with("/s.json:2:4: not JSON: ")) << findings;
}

/// A file of a few services, most often a good one.
std::string random_file(base::Random& random) {
  std::string text = random.below(20) == 0 ? " {\"services\" :[" : "{\"services\":[";
  for (std::uint64_t s = 0, count = random.below(6); s < count; ++s) {
    text += std::string(s > 0 ? "," : "") + (random.below(3) == 0 ? "\n" : "") +
            "{\"name\":\"s{}\\\"\",\"address\":\"240.64.0." + std::to_string(s + random.below(2)) + ":80\",";
    if (random.below(4) == 0) text += "\"protocol\":[\"tcp\",\"udp\"],";
    text += "\"endpoints\":[\"10.0.0." + std::to_string(random.below(3)) + ":80\"]}";
    // The name above is wrong on purpose in one way that strings and braces test; mostly it is right.
    if (random.below(10) != 0) text.replace(text.rfind("s{}\\\""), 5, "s");
  }
  text += "]}";
  if (random.below(4) == 0 && !text.empty()) text[random.below(text.size())] = "{}[]\",:\\ a"[random.below(10)];
  return text;
}

TEST(ServiceFile, the_shortcut_for_known_elements_gives_what_the_whole_parser_gives) {
  const std::uint64_t seed = 97;
  RecordProperty("seed", std::to_string(seed));
  base::Random random(seed);
  std::vector<KnownElement> known;
  std::size_t good = 0;
  for (int round = 0; round < 20'000; ++round) {
    const std::string text = random_file(random);
    const ParsedFile whole = parse_services("/s.json", text, {});
    ParsedFile quick = parse_services("/s.json", text, {}, known);
    ASSERT_EQ(findings_of(quick), findings_of(whole)) << "seed " << seed << " round " << round << "\n" << text;
    ASSERT_EQ(quick.services.size(), whole.services.size()) << text;
    for (std::size_t i = 0; i < whole.services.size(); ++i) {
      ASSERT_TRUE(quick.services[i]->same_as(*whole.services[i])) << "seed " << seed << " round " << round << "\n"
                                                                  << text;
    }
    if (!quick.good()) continue;
    ++good;
    if (!quick.known.empty()) known = std::move(quick.known);
  }
  EXPECT_GT(good, 5000u);
}

TEST(ServiceFile, a_known_element_keeps_its_pointer_and_a_changed_one_has_its_line) {
  const std::string first = R"({"services":[
{"name":"a","address":"240.64.0.1:80","endpoints":[]},
{"name":"b","address":"240.64.0.2:80","endpoints":[]}]})";
  ParsedFile before = parse_services("/s.json", first, {});
  std::string second = first;
  second.replace(second.find("\"b\""), 3, "\"c\"");
  const ParsedFile after = parse_services("/s.json", second, {}, before.known);
  ASSERT_EQ(after.services.size(), 2u) << findings_of(after);
  EXPECT_EQ(after.services[0], before.services[0]);
  EXPECT_EQ(after.services[1]->name, "c");
  EXPECT_EQ(after.services[1]->origin, "/s.json:3");
}

}  // namespace
}  // namespace mesh::discovery
