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
      "file, balance, hash_key, affinity_timeout, panic_threshold, feedback, maglev_size, probe\n"
      "/s.json:4:60: services[1].file: is for services in meshd.yaml; list the endpoints here\n");
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
